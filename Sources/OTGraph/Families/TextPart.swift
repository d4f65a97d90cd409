import OTFoundation
import OTJSON

/// The language model in a checkpoint of several parts: `text_config` of config.json.
///
/// Only those are read so whose text part, given text alone, computes what it does as a model of its own.
enum TextPart {
  /// Models of several parts: `model_type`, and the only architecture.
  private static let wrappers = [
    "gemma3": "Gemma3ForConditionalGeneration", "llava": "LlavaForConditionalGeneration",
    "mistral3": "Mistral3ForConditionalGeneration",
  ]

  /// The configuration of the text part; nil where `configuration` is that of one model.
  ///
  /// - Throws: `Refusal` (`family-architecture`, `family-code`, `family-configuration`).
  static func configuration(in configuration: Configuration) throws -> Configuration? {
    guard let type = try configuration.text("model_type"), let wrapper = wrappers[type],
      let text = configuration.value("text_config")?.object
    else { return nil }
    let architectures = configuration.value("architectures")?.array?.compactMap(\.string) ?? []
    if let other = architectures.first(where: { $0 != wrapper }) {
      throw Refusal(
        "family-architecture", "config.json names the architecture '\(other)', which is none of '\(type)'",
        file: configuration.file, remedy: Families.withoutGraph)
    }
    try configuration.checkCode(of: type)
    var members = text
    // What the whole is called says what the part is.
    members["architectures"] = nil
    // The head belongs to the whole.
    if let isTied = configuration.value("tie_word_embeddings") { members["tie_word_embeddings"] = isTied }
    return try Configuration(.object(members), file: configuration.file)
  }
}
