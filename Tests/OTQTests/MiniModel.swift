import Foundation
import OTCheckpoint
import OTConversion
import OTFoundation
import OTQ
import Testing
import _OTTestSupport

/// The small trained models of the fixtures, as checkpoints and packed.
enum MiniModel {
  static func folder(_ family: String) -> String { Fixtures.path("models/\(family)-mini") }

  static func checkpoint(_ family: String, threadCount: Int = 2) throws -> LanguageModel {
    try LanguageModel(path: folder(family), threadCount: threadCount)
  }

  /// The model, converted with one scale per token; the file stays mapped when it is gone.
  static func packed(_ folder: String, bits: Int = 8, threadCount: Int = 2) throws -> LanguageModel {
    try withTemporaryFolder { temporary in
      var options = ConversionOptions()
      options.bits = bits
      let path = temporary + "/model.otq"
      try Converter(ConversionPlan(checkpoint: Checkpoint.open(folder), options: options)).run(to: path)
      return try LanguageModel(path: path, threadCount: threadCount)
    }
  }

  /// Runs `body` on a copy of a fixture's folder in which some files have
  /// other contents; nil: they are not there.
  static func withCopy<Result>(
    of family: String, _ files: [String: String?], _ body: (String) throws -> Result
  ) throws -> Result {
    try withTemporaryFolder { temporary in
      let manager = FileManager.default
      let wanted = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
      for name in wanted where files[name] == nil {
        try manager.createSymbolicLink(
          atPath: "\(temporary)/\(name)", withDestinationPath: "\(folder(family))/\(name)")
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

/// The rule by which `body` is refused; nil when it is not.
func refusedRule(_ body: () throws -> Void) throws -> String? {
  do {
    try body()
    return nil
  } catch let refusal as Refusal {
    return refusal.rule
  }
}
