import OTFoundation
import OTJSON

/// The files of a model that describe its tokenizer, by their names in the layout of Hugging Face.
///
/// There is one form of a tokenizer, tokenizer.json; the older forms (`vocab.json` with `merges.txt`,
/// `vocab.txt`, SentencePiece's `tokenizer.model`) are translated to it, to what the reference makes of them.
package struct TokenizerFiles {
  /// The names of SentencePiece's models.
  private static let sentencePieceNames = ["tokenizer.model", "spiece.model", "sentencepiece.bpe.model"]

  private let json: (String) throws -> JSONValue?
  private let bytes: (String) throws -> [UInt8]?
  private let path: (String) -> String

  /// - Parameters:
  ///   - json: parses a file; nil where it is not there.
  ///   - bytes: reads one.
  ///   - path: what errors call it.
  package init(
    json: @escaping (_ name: String) throws -> JSONValue?, bytes: @escaping (_ name: String) throws -> [UInt8]?,
    path: @escaping (_ name: String) -> String
  ) {
    self.json = json
    self.bytes = bytes
    self.path = path
  }

  /// The tokenizer; nil where there are no files of one.
  ///
  /// - Throws: as `Tokenizer.init(json:file:)`, and as `translation()`.
  package func tokenizer() throws -> Tokenizer? {
    if let json = try json("tokenizer.json") {
      return try Tokenizer(json: json, file: path("tokenizer.json"), applying: configuration())
    }
    return try translation().map { try Tokenizer(json: $0.json, file: $0.file, applying: configuration()) }
  }

  /// The tokenizer.json of a model that has older files only, and the file that it is made of; nil where there
  /// are none.
  ///
  /// - Throws: `Refusal` with a rule `tokenizer-…`, `tokenizer-unsupported` for files of a class of tokenizers
  ///   that is read from tokenizer.json only.
  package func translation() throws -> (json: JSONValue, file: String)? {
    let configuration = try configuration()
    func translation(_ file: String) -> TokenizerTranslation { TokenizerTranslation(configuration, file: file) }
    for name in Self.sentencePieceNames {
      if let bytes = try bytes(name) {
        let file = path(name)
        return (try translation(file).json(of: SentencePieceModel(bytes, file: file)), file)
      }
    }
    if let vocabulary = try json("vocab.json"), let merges = try bytes("merges.txt") {
      let file = path("vocab.json")
      return (try translation(file).json(vocabulary: vocabulary, merges: merges), file)
    }
    if let words = try bytes("vocab.txt") {
      let file = path("vocab.txt")
      return (try translation(file).json(words: words), file)
    }
    return nil
  }

  private func configuration() throws -> TokenizerConfiguration {
    func section(_ name: String) throws -> TokenizerSection? {
      guard let json = try json(name), json.object != nil else { return nil }
      return TokenizerSection(json: json, path: "", file: path(name))
    }
    return try TokenizerConfiguration(
      configuration: try section("tokenizer_config.json"), specialTokens: try section("special_tokens_map.json"),
      addedTokens: try section("added_tokens.json"), modelType: try json("config.json")?["model_type"]?.string)
  }
}

extension Tokenizer {
  /// The tokenizer of a tokenizer.json with what its configuration adds and changes: tokens, whether BERT's
  /// normalizer lowers case, and whether a space goes before a text of bytes.
  fileprivate init(json: JSONValue, file: String, applying configuration: TokenizerConfiguration) throws {
    var json = json
    switch configuration.kind {
    case .bert: json = Self.replacing("normalizer", in: json) { Self.setBERT(&$0, configuration) }
    case .gpt2, .roberta, .qwen2:
      json = Self.replacing("pre_tokenizer", in: json) { step in
        guard step["type"]?.string == "ByteLevel" else { return }
        if let adds = configuration.flag("add_prefix_space") { step["add_prefix_space"] = .bool(adds) }
      }
    default: break
    }
    let root = TokenizerSection(json: json, path: "", file: file)
    let listed = root.optional("added_tokens") == nil ? [] : try root.sections("added_tokens").map(AddedToken.init)
    try self.init(json: json, file: file, adding: configuration.additions(to: listed))
  }

  private static func setBERT(_ step: inout JSONObject, _ configuration: TokenizerConfiguration) {
    guard step["type"]?.string == "BertNormalizer" else { return }
    if let lowers = configuration.flag("do_lower_case") { step["lowercase"] = .bool(lowers) }
    if let strips = configuration.flag("strip_accents") { step["strip_accents"] = .bool(strips) }
    if let separates = configuration.flag("tokenize_chinese_chars") {
      step["handle_chinese_chars"] = .bool(separates)
    }
  }

  /// Changes a component, or each of a sequence.
  private static func replacing(
    _ name: String, in json: JSONValue, _ change: (inout JSONObject) -> Void
  ) -> JSONValue {
    guard var root = json.object, var step = root[name]?.object else { return json }
    for list in ["normalizers", "pretokenizers"] {
      guard let steps = step[list]?.array else { continue }
      step[list] = .array(
        steps.map { inner in
          guard var inner = inner.object else { return inner }
          change(&inner)
          return .object(inner)
        })
    }
    change(&step)
    root[name] = .object(step)
    return .object(root)
  }
}
