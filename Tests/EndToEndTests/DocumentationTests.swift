import Foundation
import Testing
import _OTTestSupport

/// The tool's articles and its help name the same options.
@Suite struct DocumentationTests {
  static let commands = [
    "convert", "inspect", "verify", "unpack", "export", "plan", "calibrate", "eval", "run", "embed", "classify",
    "tokenize", "demo", "compare", "merge",
  ]

  /// The options in a text: `--bits` of `--bits 2…8`.
  private static func options(in text: String) -> Set<String> {
    let words = text.split { !$0.isLetter && !$0.isNumber && $0 != "-" }
    return Set(words.filter { $0.hasPrefix("--") && $0.dropFirst(2).first?.isLowercase == true }.map(String.init))
  }

  private static func article(_ name: String) throws -> String {
    let folder = Fixtures.root.deletingLastPathComponent().appendingPathComponent("Sources/otconvert/otconvert.docc")
    return try String(contentsOf: folder.appendingPathComponent(name + ".md"), encoding: .utf8)
  }

  private static func help(_ command: String) throws -> Set<String> {
    let outcome = try Tool.run(command, "--help")
    #expect(outcome.status == 0)
    return options(in: outcome.output)
  }

  @Test func optionsOfAConversionHaveARow() throws {
    let rows = try Self.article("Options").split(separator: "\n").filter { $0.hasPrefix("| `--") }
    let described = Self.options(in: rows.joined(separator: "\n"))
    // The landing page has those of every command.
    let missing = try Self.help("convert").subtracting(described).subtracting([
      "--help", "--version", "--quiet", "--json",
    ])
    #expect(missing.isEmpty)
  }

  @Test(arguments: ["otconvert", "Options", "Methods", "Calibration", "Verification", "Requirements", "Tasks"])
  func articlesNameNoOtherOptions(article: String) throws {
    let known = try Self.commands.reduce(into: Set<String>()) { $0.formUnion(try Self.help($1)) }
    #expect(Self.options(in: try Self.article(article)).subtracting(known).isEmpty)
  }

  /// A remedy that names an option names one that there is.
  @Test func messagesNameNoOtherOptions() throws {
    let known = try Self.commands.reduce(into: Set<String>()) { $0.formUnion(try Self.help($1)) }
    let sources = Fixtures.root.deletingLastPathComponent().appendingPathComponent("Sources")
    let files = try #require(FileManager.default.enumerator(at: sources, includingPropertiesForKeys: nil))
    var count = 0
    // Variables of style sheets look like options; Slurm and the benchmarks have options of their own.
    for case let file as URL in files where file.pathExtension == "swift" {
      guard file.lastPathComponent != "HTMLPage+Style.swift", !file.path.contains("/otbench/") else { continue }
      let code = try String(contentsOf: file, encoding: .utf8).split(separator: "\n").filter { line in
        !line.drop { $0 == " " }.hasPrefix("//")
      }
      let named = Self.options(in: code.joined(separator: "\n"))
      #expect(named.subtracting(known).subtracting(["--array"]).isEmpty, "\(file.lastPathComponent)")
      count += named.count
    }
    #expect(count > 100)
  }
}
