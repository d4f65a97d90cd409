import Foundation
import OTFoundation
import OTJSON

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// The system's record of one finished run of a program.
struct MeasuredProcess {
  let wallSeconds: Double
  /// User and system time of all threads.
  let processorSeconds: Double
  /// Largest resident memory, in bytes.
  let peakByteCount: Int

  /// Runs a program whose output is thrown away, and waits for it.
  ///
  /// - Throws: `Refusal` when it cannot be started or ends with another status than 0.
  init(_ executable: String, _ arguments: [String]) throws {
    var argv: [UnsafeMutablePointer<CChar>?] = ([executable] + arguments).map { strdup($0) } + [nil]
    defer { argv.forEach { free($0) } }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0)
    var child = pid_t()
    let start = ContinuousClock.now
    let status = posix_spawn(&child, executable, &actions, nil, &argv, environ)
    guard status == 0 else {
      throw Refusal("bench-start", "cannot be started: \(String(cString: strerror(status)))", file: executable)
    }
    var exit: Int32 = 0
    var usage = rusage()
    while wait4(child, &exit, 0, &usage) < 0, errno == EINTR {}
    wallSeconds = (ContinuousClock.now - start) / .seconds(1)
    guard exit == 0 else {
      throw Refusal("bench-failed", "ended with status \(exit)", file: executable)
    }
    func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
    processorSeconds = seconds(usage.ru_utime) + seconds(usage.ru_stime)
    // Linux counts kilobytes.
    peakByteCount = Int(usage.ru_maxrss) * 1024
  }
}

/// Smallest, median and largest of some figures.
struct Spread {
  let minimum: Double
  let median: Double
  let maximum: Double

  /// - Precondition: there is at least one value.
  init(_ values: [Double]) {
    let sorted = values.sorted()
    minimum = sorted[0]
    maximum = sorted[sorted.count - 1]
    let middle = sorted.count / 2
    median = sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  }
}

extension Spread {
  /// The three figures.
  var json: JSONValue {
    .object(["minimum": .number(minimum), "median": .number(median), "maximum": .number(maximum)])
  }
}

/// A fresh folder in `folder` that is removed when `body` returns.
func withWorkFolder<Result>(in folder: String, _ body: (String) throws -> Result) throws -> Result {
  let work = "\(folder)/otbench-\(UUID().uuidString)"
  try FileManager.default.createDirectory(atPath: work, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(atPath: work) }
  return try body(work)
}

/// The processor's name, for tables.
func processorName() -> String {
  let information = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
  let line = information.split(separator: "\n").first { $0.hasPrefix("model name") }
  return line?.split(separator: ":").last.map { $0.trimmingCharacters(in: .whitespaces) } ?? "unknown processor"
}
