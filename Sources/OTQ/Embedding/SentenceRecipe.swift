import OTFoundation
import OTJSON

/// The instructions of a model's folder for embedding sentences, as
/// sentence-transformers reads it.
package struct SentenceRecipe: Sendable, Equatable {
  /// The vectors that are joined, at least one.
  package let poolings: [SentencePooling]
  /// True when the vector is divided by its length.
  package let isNormalized: Bool
  /// The most tokens of a sentence, special ones included; nil: no limit.
  package let maximumTokenCount: Int?
  /// True when a text is made lower case before it is tokenized.
  package let lowercases: Bool
  /// The text that is put before every text, of the prompt that the model names as its default.
  package let prompt: String
  /// Names of prompts that the model has and that are not put before a text unless it has them.
  package let otherPrompts: [String]

  /// Reads `modules.json`, the pooling module's `config.json`, `config_sentence_transformers.json` and
  /// `sentence_bert_config.json`. A model without modules gets what
  /// sentence-transformers gives a plain transformer: the mean, not normalized.
  ///
  /// - Throws: `Refusal` with rule `embed-modules` for modules that are not
  ///   supported, or as reading throws.
  init(_ model: LanguageModel) throws {
    let file = model.file
    func refusal(_ message: String) -> Refusal { Refusal("embed-modules", message, file: file.path) }
    let modules = try file.model.json(.sentenceModules)
    (prompt, otherPrompts) = try Self.prompts(file.model.json(.sentencePrompts), refusal)
    var poolings: [SentencePooling] = []
    var isNormalized = false
    if let modules {
      guard let list = modules.array else { throw refusal("modules.json is not a list") }
      for module in list {
        guard let type = module["type"]?.string?.split(separator: ".").last else {
          throw refusal("a module of modules.json has no type")
        }
        switch type {
        case "Transformer": break
        case "Pooling":
          let path = module["path"]?.string ?? ""
          guard poolings.isEmpty, let json = try file.model.json(.pooling) else {
            throw refusal("its pooling module '\(path)' has no config.json, or is one of several")
          }
          guard prompt.isEmpty || json["include_prompt"]?.bool ?? true else {
            throw refusal("pooling without the prompt's tokens is not supported")
          }
          poolings = try Self.poolings(json, refusal)
        case "Normalize": isNormalized = true
        default: throw refusal("modules of type '\(type)' are not supported")
        }
      }
      // Without it a sentence has a vector for each token.
      guard !poolings.isEmpty else { throw refusal("modules.json has no pooling module") }
    } else {
      poolings = [.mean]
    }
    self.poolings = poolings
    self.isNormalized = isNormalized
    let configuration = try file.model.json(.sentenceConfiguration)
    let tokenizer = try file.model.json(.tokenizerConfiguration)
    // A tokenizer without limit says 10^30.
    let limits = [
      configuration?["max_seq_length"]?.double ?? tokenizer?["model_max_length"]?.double,
      model.contextLength.map(Double.init),
    ]
    maximumTokenCount = limits.compactMap { $0 }.filter { $0 >= 1 && $0 < 0x1p31 }.min().map { Int($0) }
    lowercases = configuration?["do_lower_case"]?.bool ?? false
  }

  /// The text of the default prompt, and the names of the others that have a text.
  private static func prompts(_ json: JSONValue?, _ refusal: (String) -> Refusal) throws -> (String, [String]) {
    let prompts = json?["prompts"]?.object?.members ?? []
    let standard = json?["default_prompt_name"]?.string
    let text = prompts.first { $0.0 == standard }?.1.string
    guard standard == nil || text != nil else {
      throw refusal("its default prompt '\(standard ?? "")' is none of its prompts")
    }
    return (text ?? "", prompts.filter { $0.0 != standard && $0.1.string.map { !$0.isEmpty } ?? false }.map(\.0))
  }

  private static func poolings(_ json: JSONValue, _ refusal: (String) -> Refusal) throws -> [SentencePooling] {
    if let mode = json["pooling_mode"]?.string {
      guard let pooling = SentencePooling.allCases.first(where: { $0.name == mode }) else {
        throw refusal("pooling '\(mode)' is not supported")
      }
      return [pooling]
    }
    let chosen = SentencePooling.allCases.filter { json[$0.rawValue]?.bool ?? false }
    let known = Set(SentencePooling.allCases.map(\.rawValue))
    let unknown = json.object?.members.first { key, value in
      key.hasPrefix("pooling_mode_") && value == .bool(true) && !known.contains(key)
    }
    if let unknown { throw refusal("pooling '\(unknown.key)' is not supported") }
    guard !chosen.isEmpty else { throw refusal("its pooling module asks for no pooling") }
    return chosen
  }

  /// The vector of a sentence, of its tokens' values `[tokens, channels]`.
  func embedding(_ hidden: Matrix) -> [Float] {
    let vector = poolings.flatMap { $0.pooled(hidden) }
    guard isNormalized else { return vector }
    let length = vector.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
    return vector.map { Float(Double($0) / max(length, 1e-12)) }
  }
}
