import Foundation
import OTCheckpoint
import OTFoundation

/// A small trained model of the fixtures: one of each family.
///
/// A new family adds a case here, and every test of all families asks for what
/// else its folder must hold.
package enum Fixture: String, CaseIterable, Sendable, CustomStringConvertible {
  case opt, bloom, llama, bert

  /// Those whose tokens see only what came before; `goldens` has more of them.
  package static let decoders: [Fixture] = [.opt, .bloom, .llama]

  /// The family's name, as a graph has it.
  package var family: String { rawValue }
  /// The name of the model's folder.
  package var name: String { "\(family)-mini" }
  package var description: String { family }

  /// The model's folder, which is a checkpoint in the layout of Hugging Face.
  package var folder: String { Fixtures.path("models/\(name)") }

  /// A file of the model's folder.
  package func path(_ file: String) -> String { "\(folder)/\(file)" }

  /// The model as it is chosen from its folder, or from one of its files.
  package func checkpoint(_ file: String? = nil) throws -> Checkpoint {
    try Checkpoint.open(file.map(path) ?? folder)
  }

  /// Token IDs, and what the original implementation made of them.
  package func goldens() throws -> Goldens { try Goldens(path: path("goldens.safetensors")) }

  /// The number of tensors of the checkpoint.
  package var tensorCount: Int {
    switch self {
    case .opt: 4 + 4 * 16
    case .bloom: 5 + 4 * 12
    case .llama: 3 + 4 * 9
    case .bert: 5 + 4 * 16 + 5
    }
  }

  /// The number of sites of the graph: two of attention and two of the MLP in each of four layers.
  package var siteCount: Int { 4 * 4 }

  /// Runs `body` on a copy of the folder in which some files have other
  /// contents; nil: they are not there.
  package func withCopy<Result>(_ files: [String: String?], _ body: (String) throws -> Result) throws -> Result {
    try withTemporaryFolder { temporary in
      let manager = FileManager.default
      for name in try manager.contentsOfDirectory(atPath: folder) where files[name] == nil {
        try manager.createSymbolicLink(atPath: "\(temporary)/\(name)", withDestinationPath: path(name))
      }
      for case let (name, text?) in files {
        let path = "\(temporary)/\(name)"
        let parent = URL(fileURLWithPath: path).deletingLastPathComponent()
        try manager.createDirectory(at: parent, withIntermediateDirectories: true)
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
      }
      return try body(temporary)
    }
  }
}
