import OTFoundation
import OTJSON

/// Makes the tokenizer.json of older files: what the reference's classes (`transformers` 5) build from them.
struct TokenizerTranslation {
  var configuration: TokenizerConfiguration
  let file: String

  init(_ configuration: TokenizerConfiguration, file: String) {
    self.configuration = configuration
    self.file = file
  }

  /// The pattern of Qwen2's class.
  private static let qwen2Words =
    #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#

  func unsupported(_ form: String) -> Refusal {
    let name = if case .other(let name) = configuration.kind { "class \(name)" } else { "this model's class" }
    return Refusal(
      "tokenizer-unsupported", "\(form) of a tokenizer of \(name) is not read", file: file,
      remedy: "save the tokenizer with transformers, which writes tokenizer.json")
  }

  // MARK: vocab.txt

  /// WordPiece as BERT has it: one token a line.
  func json(words: [UInt8]) throws -> JSONValue {
    switch configuration.kind {
    case .bert, .general: break
    default: throw unsupported("vocab.txt")
    }
    var translation = self
    translation.configuration.setDefaults([
      "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]",
    ])
    var vocabulary = JSONObject()
    for (id, line) in try lines(words).enumerated() {
      let end = line.lastIndex { !$0.properties.isWhitespace }
      vocabulary[end.map { String(line[...$0]) } ?? ""] = .integer(id)
    }
    let lowers = configuration.flag("do_lower_case") ?? true
    return try translation.finished(
      [
        "model": Self.component(
          "WordPiece",
          [
            "vocab": .object(vocabulary), "unk_token": .string(translation.configuration.text("unk_token") ?? "[UNK]"),
            "continuing_subword_prefix": .string("##"), "max_input_chars_per_word": .integer(100),
          ]),
        "normalizer": Self.component(
          "BertNormalizer",
          [
            "clean_text": .bool(true), "lowercase": .bool(lowers),
            "handle_chinese_chars": .bool(configuration.flag("tokenize_chinese_chars") ?? true),
            "strip_accents": configuration.flag("strip_accents").map { .bool($0) } ?? .null,
          ]),
        "pre_tokenizer": Self.component("BertPreTokenizer"),
        "decoder": Self.component("WordPiece", ["prefix": .string("##"), "cleanup": .bool(true)]),
      ], leading: ["cls_token"], trailing: ["sep_token"])
  }

  /// The lines of a text in UTF-8, without their ends; the last may lack its end.
  private func lines(_ bytes: [UInt8]) throws -> [Substring.UnicodeScalarView] {
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw Refusal("tokenizer-syntax", "is not UTF-8", file: file)
    }
    var lines = text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false)
    if lines.last?.isEmpty ?? false { lines.removeLast() }
    return lines.map { $0.last == "\r" ? $0.dropLast() : $0 }.map { Substring($0).unicodeScalars }
  }

  // MARK: vocab.json and merges.txt

  /// Byte-level byte-pair encoding as GPT-2, RoBERTa and Qwen2 have it.
  func json(vocabulary: JSONValue, merges: [UInt8]) throws -> JSONValue {
    var translation = self
    var (leading, trailing) = boundaries
    var normalizer = JSONValue.null
    let addsSpace = JSONValue.bool(configuration.flag("add_prefix_space") ?? false)
    var preTokenizer = Self.component("ByteLevel", ["add_prefix_space": addsSpace, "use_regex": .bool(true)])
    let end = "<|endoftext|>"
    switch configuration.kind {
    case .gpt2, .general:
      translation.configuration.setDefaults(["bos_token": end, "eos_token": end, "unk_token": end])
    case .roberta:
      translation.configuration.setDefaults([
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>", "pad_token": "<pad>",
        "cls_token": "<s>", "mask_token": "<mask>",
      ])
      (leading, trailing) = (["cls_token"], ["sep_token"])
    case .qwen2:
      translation.configuration.setDefaults(["eos_token": end, "unk_token": end, "pad_token": end])
      normalizer = Self.component("NFC")
      let split = Self.component(
        "Split", ["pattern": .object(["Regex": .string(Self.qwen2Words)]), "behavior": .string("Isolated")])
      let bytes = Self.component("ByteLevel", ["add_prefix_space": addsSpace, "use_regex": .bool(false)])
      preTokenizer = Self.component("Sequence", ["pretokenizers": .array([split, bytes])])
    default: throw unsupported("vocab.json")
    }
    // A blank line at the end is harmless; the reader of tokenizer.json looks at the others.
    let pairs = try lines(merges).filter { !$0.isEmpty }.map { JSONValue.string(String($0)) }
    return try translation.finished(
      [
        "model": Self.component("BPE", ["vocab": vocabulary, "merges": .array(pairs), "fuse_unk": .bool(false)]),
        "normalizer": normalizer, "pre_tokenizer": preTokenizer, "decoder": Self.component("ByteLevel"),
      ], leading: leading, trailing: trailing)
  }

  /// The special tokens that the configuration puts around a text.
  var boundaries: (leading: [String], trailing: [String]) {
    (
      configuration.flag("add_bos_token") == true ? ["bos_token"] : [],
      configuration.flag("add_eos_token") == true ? ["eos_token"] : []
    )
  }

  // MARK: Components

  static func component(_ type: String, _ members: JSONObject = [:]) -> JSONValue {
    var object = members
    object["type"] = .string(type)
    return .object(object)
  }

  static func replacing(_ pattern: String, by content: String, isRegex: Bool = false) -> JSONValue {
    component(
      "Replace",
      ["pattern": .object([isRegex ? "Regex" : "String": .string(pattern)]), "content": .string(content)])
  }

  static func metaspace(_ scheme: String, splits: Bool) -> JSONValue {
    component(
      "Metaspace", ["replacement": .string("▁"), "prepend_scheme": .string(scheme), "split": .bool(splits)])
  }

  /// Takes the space off that goes before a text.
  static let strip = component(
    "Strip", ["content": .string(" "), "start": .integer(1), "stop": .integer(0)])

  static func characterMap(_ model: SentencePieceModel) -> JSONValue {
    component("Precompiled", ["precompiled_charsmap": .string(Base64.encode(model.characterMap))])
  }

  static func vocabulary(_ tokens: [(text: String, id: Int)]) -> JSONValue {
    var vocabulary = JSONObject()
    for token in tokens { vocabulary[token.text] = .integer(token.id) }
    return .object(vocabulary)
  }

  static func merges(_ pairs: [(left: String, right: String)]) -> JSONValue {
    .array(
      pairs.map { left, right in
        // The short form takes a fraction of the memory of a list.
        left.utf8.contains(0x20) || right.utf8.contains(0x20)
          ? .array([.string(left), .string(right)]) : .string("\(left) \(right)")
      })
  }

  static func unigram(
    _ pieces: [(text: String, score: Double)], unknownID: Int, hasByteFallback: Bool
  ) -> JSONValue {
    component(
      "Unigram",
      [
        "vocab": .array(pieces.map { .array([.string($0.text), .number($0.score)]) }),
        "unk_id": unknownID < 0 ? .null : .integer(unknownID), "byte_fallback": .bool(hasByteFallback),
      ])
  }

  /// The whole, with its added tokens and the special tokens around a text.
  ///
  /// - Parameters:
  ///   - leading: names of the tokens before a text.
  ///   - trailing: names of those after it.
  func finished(_ root: JSONObject, leading: [String], trailing: [String]) throws -> JSONValue {
    var root = root
    root["version"] = .string("1.0")
    // JSON's members here have names without NUL; other files' tokens may have it.
    if root["model"]?["vocab"]?.object?.members.contains(where: { $0.key.utf8.contains(0) }) ?? false {
      throw Refusal("tokenizer-vocabulary", "has a token with NUL", file: file)
    }
    let additions = configuration.additions(to: [])
    let tokenizer = try Tokenizer(json: .object(root), file: file, adding: additions)
    let added = tokenizer.addedTokens.byID.sorted { $0.key < $1.key }
    // New tokens get the ids behind the number of tokens, which others have where ids have gaps.
    guard added.count == tokenizer.addedTokens.ids.count else {
      throw Refusal(
        "tokenizer-vocabulary", "has no ids for special tokens that it lacks, since tokens occur twice or are left out",
        file: file, remedy: "save its tokenizer.json with the package 'transformers'")
    }
    root["added_tokens"] = .array(added.map { $0.value.json(id: $0.key) })
    var special = JSONObject()
    func items(_ names: [String]) throws -> [JSONValue] {
      try names.compactMap { configuration.text($0) }.map { text in
        guard let id = tokenizer.id(of: text) else {
          throw Refusal("tokenizer-vocabulary", "has no token '\(text)'", file: file)
        }
        guard !text.utf8.contains(0) else {
          throw Refusal("tokenizer-vocabulary", "has a token with NUL", file: file)
        }
        special[text] = .object(["id": .string(text), "ids": .array([.integer(id)]), "tokens": .array([.string(text)])])
        return .object(["SpecialToken": .object(["id": .string(text), "type_id": .integer(0)])])
      }
    }
    let text = JSONValue.object(["Sequence": .object(["id": .string("A"), "type_id": .integer(0)])])
    let single = try items(leading) + [text] + items(trailing)
    guard single.count > 1 else { return .object(root) }
    let pair = single + [.object(["Sequence": .object(["id": .string("B"), "type_id": .integer(0)])])]
    root["post_processor"] = Self.component(
      "TemplateProcessing",
      ["single": .array(single), "pair": .array(pair), "special_tokens": .object(special)])
    return .object(root)
  }
}
