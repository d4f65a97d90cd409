import Foundation
import OTJSON
import Testing

/// Runs the built otconvert, as a user would.
enum Tool {
  /// The folder of the built products, where the tests' own executable lies.
  static let folder = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()

  struct Outcome: Sendable {
    let status: Int32
    let output: String
    let errors: String
    /// Lines of standard error, but for progress and warnings.
    var errorLines: [Substring] {
      errors.split(separator: "\n").filter { line in
        !line.hasPrefix("warning: ")
          && !["converting ", "verifying ", "unpacking ", "calibrating "].contains(where: line.hasPrefix)
      }
    }
  }

  static func process(_ arguments: [String], environment: [String: String] = [:]) -> Process {
    let process = Process()
    process.executableURL = folder.appendingPathComponent("otconvert")
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    return process
  }

  @discardableResult
  static func run(
    _ arguments: String..., environment: [String: String] = [:], in directory: String? = nil
  ) throws -> Outcome {
    let tool = process(arguments, environment: environment)
    if let directory { tool.currentDirectoryURL = URL(fileURLWithPath: directory) }
    return try finish(tool)
  }

  /// Runs a line of shell in which `$OTCONVERT` is the tool.
  static func shell(_ line: String) throws -> Outcome {
    let shell = Process()
    shell.executableURL = URL(fileURLWithPath: "/bin/sh")
    shell.arguments = ["-c", line]
    shell.environment = ProcessInfo.processInfo.environment
      .merging(["OTCONVERT": folder.appendingPathComponent("otconvert").path]) { $1 }
    return try finish(shell)
  }

  static func finish(_ process: Process) throws -> Outcome {
    // Files, not pipes: neither stream can fill up while the other is read.
    let base = NSTemporaryDirectory() + "/otq-tool-\(UUID().uuidString)"
    defer { for kind in ["out", "err"] { try? FileManager.default.removeItem(atPath: "\(base).\(kind)") } }
    for kind in ["out", "err"] { try Data().write(to: URL(fileURLWithPath: "\(base).\(kind)")) }
    process.standardOutput = FileHandle(forWritingAtPath: base + ".out")
    process.standardError = FileHandle(forWritingAtPath: base + ".err")
    try process.run()
    process.waitUntilExit()
    return Outcome(
      status: process.terminationStatus, output: try String(contentsOfFile: base + ".out", encoding: .utf8),
      errors: try String(contentsOfFile: base + ".err", encoding: .utf8))
  }
}

func contents(_ path: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: path)) }
