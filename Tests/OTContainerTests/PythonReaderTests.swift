import Foundation
import OTFoundation
import Testing
import _OTTestSupport

/// The reader in formats/python against the cases of the one in Swift: two programs, one document.
struct PythonReaderTests {
  static let cases =
    StructureRefusalTests.header + StructureRefusalTests.table + IndexRefusalTests.cases + DataRefusalTests.frames
    + DataRefusalTests.values

  /// Prints the rule by which each file of a folder is refused.
  static let script = """
    import os, sys
    sys.path.insert(0, sys.argv[1])
    import otq
    for name in sorted(os.listdir(sys.argv[2])):
        try:
            with otq.safe_open(os.path.join(sys.argv[2], name)) as file:
                file.verify()
            print(name, "read")
        except otq.Refusal as refusal:
            print(name, refusal.rule)
    """

  @Test func everyCaseIsRefusedByItsRule() throws {
    let python = ProcessInfo.processInfo.environment["OTQ_PYTHON"] ?? "python3"
    let reader = Fixtures.root.deletingLastPathComponent().appendingPathComponent("formats/python").path
    try withTemporaryFolder { folder in
      let files = folder + "/files"
      try FileManager.default.createDirectory(atPath: files, withIntermediateDirectories: false)
      var expected: [String] = []
      for (index, file) in Self.cases.enumerated() {
        let name = String(1000 + index)
        try Data(file.make()).write(to: URL(fileURLWithPath: "\(files)/\(name)"))
        expected.append("\(name) \(file.rule)")
      }
      try Data(HandmadeFile.small.bytes).write(to: URL(fileURLWithPath: files + "/9999"))
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
      process.arguments = [python, "-B", "-c", Self.script, reader, files]
      let pipe = Pipe()
      process.standardOutput = pipe
      try process.run()
      let output = try pipe.fileHandleForReading.readToEnd() ?? Data()
      process.waitUntilExit()
      #expect(process.terminationStatus == 0, "needs numpy and zstandard: scripts/test installs them")
      let lines = String(decoding: output, as: UTF8.self).split(separator: "\n").map(String.init)
      #expect(lines.last == "9999 read" && lines.count == expected.count + 1)
      for (line, wanted) in zip(lines, expected) where line != wanted {
        let file = Self.cases[(Int(wanted.prefix(4)) ?? 1000) - 1000]
        Issue.record("\(file.name): \(line), expected \(wanted)")
      }
    }
  }
}
