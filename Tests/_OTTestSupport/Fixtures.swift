import Foundation

/// The folder of the committed fixtures, whatever folder the tests run in.
package enum Fixtures {
  package static let root = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("fixtures")

  /// Path of a fixture: `Fixtures.path("pytorch/manifest.json")`.
  package static func path(_ relative: String) -> String {
    root.appendingPathComponent(relative).path
  }
}

/// A fresh folder that is removed when `body` returns.
package func withTemporaryFolder<Result>(_ body: (String) throws -> Result) throws -> Result {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent("otq-test-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  return try body(folder.path)
}

extension Fixtures {
  /// The names of the folders in a folder of fixtures, sorted.
  package static func names(_ relative: String) -> [String] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path(relative))) ?? []
    return names.filter { !$0.contains(".") }.sorted()
  }
}
