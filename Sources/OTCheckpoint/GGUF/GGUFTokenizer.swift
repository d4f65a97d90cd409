import OTFoundation
import OTJSON

/// The tokenizer in a GGUF file, as the files of the original's layout.
struct GGUFTokenizer {
  private let file: GGUFFile
  private let tokens: [String]
  private let types: [Int]

  /// Kinds of tokens; the numbers are SentencePiece's.
  private enum Kind {
    static let normal = 1
    static let control = 3
    static let userDefined = 4
    static let unused = 5
  }

  /// Nil where the file has no tokens.
  ///
  /// - Throws: `Refusal` with rule `gguf-tokenizer` for lists that do not belong together.
  init?(_ file: GGUFFile) throws {
    guard case .strings(let tokens)? = file.values["tokenizer.ggml.tokens"], !tokens.isEmpty else { return nil }
    self.file = file
    self.tokens = tokens
    if case .integers(let types)? = file.values["tokenizer.ggml.token_type"] {
      self.types = types
    } else {
      types = [Int](repeating: Kind.normal, count: tokens.count)
    }
    guard types.count == tokens.count else {
      throw file.refusal("gguf-tokenizer", "has \(types.count) types for \(tokens.count) tokens")
    }
  }

  private func text(_ key: String) -> String? { file.values["tokenizer.ggml.\(key)"]?.string }
  private func flag(_ key: String) -> Bool? { file.values["tokenizer.ggml.\(key)"]?.bool }
  private func id(_ key: String) -> Int? {
    file.values["tokenizer.ggml.\(key)"]?.integer.flatMap { tokens.indices.contains($0) ? $0 : nil }
  }

  /// The files; nil with the reason where the tokenizer is of a kind that is not read.
  ///
  /// - Throws: `Refusal` with rule `gguf-tokenizer`.
  func files() throws -> (files: [ModelAttachments.Kind: [UInt8]], reason: String?) {
    var result: [ModelAttachments.Kind: [UInt8]] = [:]
    var className = "PreTrainedTokenizerFast"
    switch text("model") ?? "" {
    case "gpt2":
      let pre = text("pre") ?? "default"
      guard let splitting = Self.splitting(pre) else {
        return ([:], "the pre-tokenizer '\(pre.prefix(40))' is not known")
      }
      result[.tokenizer] = bytes(try bytePairs(splitting, pre: pre))
    case "llama": result[.sentencePiece] = try sentencePiece()
    case "bert":
      className = "BertTokenizer"
      result[.vocabulary] = try wordPieces()
    case let other: return ([:], "tokenizers of the kind '\(other.prefix(40))' are not read")
    }
    result[.tokenizerConfiguration] = bytes(.object(configuration(className)))
    if let ends = ends { result[.generationConfiguration] = bytes(.object(["eos_token_id": ends])) }
    return (result, nil)
  }

  private func bytes(_ json: JSONValue) -> [UInt8] { Array(json.text(pretty: true).utf8) }

  /// The tokens that end a text or a turn of a conversation.
  private var ends: JSONValue? {
    let ids = ["eos_token_id", "eot_token_id", "eom_token_id"].compactMap(id)
    return ids.isEmpty ? nil : .array(Array(Set(ids)).sorted().map { .integer($0) })
  }

  private func configuration(_ className: String) -> JSONObject {
    var members: JSONObject = ["tokenizer_class": .string(className)]
    let names = [
      ("bos_token", "bos_token_id"), ("eos_token", "eos_token_id"), ("unk_token", "unknown_token_id"),
      ("pad_token", "padding_token_id"), ("sep_token", "seperator_token_id"), ("cls_token", "cls_token_id"),
      ("mask_token", "mask_token_id"),
    ]
    for (name, key) in names { if let id = id(key) { members[name] = .string(tokens[id]) } }
    for key in ["add_bos_token", "add_eos_token"] { members[key] = flag(key).map { .bool($0) } }
    // What llama.cpp does where the file does not say.
    if text("model") == "llama", members["add_bos_token"] == nil { members["add_bos_token"] = .bool(true) }
    if let template = file.values["tokenizer.chat_template"]?.string { members["chat_template"] = .string(template) }
    if className == "BertTokenizer" {
      members["do_lower_case"] = .bool(flag("normalizer.lowercase") ?? true)
      members["strip_accents"] = flag("normalizer.strip_accents").map { .bool($0) }
    }
    var added: JSONObject = [:]
    for id in tokens.indices where types[id] == Kind.control || types[id] == Kind.userDefined {
      added["\(id)"] = addedToken(id)
    }
    if className != "BertTokenizer", added.count > 0 { members["added_tokens_decoder"] = .object(added) }
    return members
  }

  private func addedToken(_ id: Int) -> JSONValue {
    .object([
      "content": .string(tokens[id]), "lstrip": .bool(false), "normalized": .bool(false), "rstrip": .bool(false),
      "single_word": .bool(false), "special": .bool(types[id] == Kind.control),
    ])
  }

  // MARK: Byte pairs

  /// tokenizer.json of byte-level byte-pair encoding.
  private func bytePairs(_ splitting: Splitting, pre: String) throws -> JSONValue {
    guard case .strings(let merges)? = file.values["tokenizer.ggml.merges"] else {
      throw file.refusal("gguf-tokenizer", "has no merges for its byte pairs")
    }
    var vocabulary: JSONObject = [:]
    var added: [JSONValue] = []
    for id in tokens.indices where types[id] != Kind.unused {
      guard !tokens[id].utf8.contains(0) else {
        throw file.refusal("gguf-tokenizer", "has NUL in token \(id)")
      }
      guard vocabulary[tokens[id]] == nil else {
        throw file.refusal("gguf-tokenizer", "has the token '\(tokens[id].prefix(80))' twice")
      }
      vocabulary[tokens[id]] = .integer(id)
      guard types[id] == Kind.control || types[id] == Kind.userDefined, var token = addedToken(id).object else {
        continue
      }
      token["id"] = .integer(id)
      added.append(.object(token))
    }
    var root: JSONObject = [
      "version": .string("1.0"), "added_tokens": .array(added), "pre_tokenizer": splitting.json,
      "normalizer": splitting.isComposed ? .object(["type": .string("NFC")]) : .null,
      "decoder": .object([
        "type": .string("ByteLevel"), "add_prefix_space": .bool(true), "trim_offsets": .bool(true),
        "use_regex": .bool(true),
      ]),
      "model": .object([
        "type": .string("BPE"), "vocab": .object(vocabulary), "merges": .array(merges.map { .string($0) }),
        "ignore_merges": .bool(splitting.ignoresMerges),
      ]),
    ]
    if flag("add_bos_token") ?? splitting.addsBeginning, let id = id("bos_token_id") {
      let token = tokens[id]
      func special(_ type: Int) -> JSONValue {
        .object(["SpecialToken": .object(["id": .string(token), "type_id": .integer(type)])])
      }
      func sequence(_ name: String, _ type: Int) -> JSONValue {
        .object(["Sequence": .object(["id": .string(name), "type_id": .integer(type)])])
      }
      root["post_processor"] = .object([
        "type": .string("TemplateProcessing"), "single": .array([special(0), sequence("A", 0)]),
        "pair": .array([special(0), sequence("A", 0), special(1), sequence("B", 1)]),
        "special_tokens": .object([
          token: .object([
            "id": .string(token), "ids": .array([.integer(id)]), "tokens": .array([.string(token)]),
          ])
        ]),
      ])
    }
    return .object(root)
  }

  // MARK: SentencePiece

  /// A SentencePiece model of the same pieces.
  private func sentencePiece() throws -> [UInt8] {
    guard case .numbers(let scores)? = file.values["tokenizer.ggml.scores"], scores.count == tokens.count else {
      throw file.refusal("gguf-tokenizer", "has no score for each of its pieces")
    }
    var message = ProtobufWriter()
    for (id, token) in tokens.enumerated() {
      guard (1...6).contains(types[id]), Float(scores[id]).isFinite else {
        throw file.refusal("gguf-tokenizer", "the piece '\(token.prefix(80))' has a type or score that makes no sense")
      }
      var piece = ProtobufWriter()
      piece.bytes(1, Array(token.utf8))
      piece.float(2, Float(scores[id]))
      piece.integer(3, UInt64(types[id]))
      message.bytes(1, piece.content)
    }
    var training = ProtobufWriter()
    // Byte-pair encoding.
    training.integer(3, 2)
    training.integer(35, types.contains(6) ? 1 : 0)
    for (number, key) in [(40, "unknown_token_id"), (41, "bos_token_id"), (42, "eos_token_id")] {
      training.integer(number, id(key).map { UInt64($0) } ?? .max)
    }
    for (number, key) in [(45, "unknown_token_id"), (46, "bos_token_id"), (47, "eos_token_id")] {
      if let id = id(key) { training.bytes(number, Array(tokens[id].utf8)) }
    }
    message.bytes(2, training.content)
    var normalization = ProtobufWriter()
    normalization.integer(3, flag("add_space_prefix") ?? true ? 1 : 0)
    normalization.integer(4, flag("remove_extra_whitespaces") ?? false ? 1 : 0)
    normalization.integer(5, 1)
    message.bytes(3, normalization.content)
    return message.content
  }

  // MARK: Word pieces

  /// vocab.txt: llama.cpp marks the beginnings of words, the original what goes on.
  private func wordPieces() throws -> [UInt8] {
    var lines: [UInt8] = []
    for (id, token) in tokens.enumerated() {
      // By scalars: the mark and an accent behind it are one character.
      let scalars = token.unicodeScalars
      var line = token
      if scalars.first == "▁" {
        line = String(String.UnicodeScalarView(scalars.dropFirst()))
      } else if types[id] == Kind.normal, !(scalars.first == "[" && scalars.last == "]") {
        line = "##" + token
      }
      guard !line.utf8.contains(where: { $0 == 0x0A || $0 == 0x0D }) else {
        throw file.refusal("gguf-tokenizer", "has a token with the end of a line in it")
      }
      lines += Array(line.utf8) + [0x0A]
    }
    return lines
  }
}

/// Writes messages of Protocol Buffers.
private struct ProtobufWriter {
  private(set) var content: [UInt8] = []

  private mutating func varint(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      content.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    content.append(UInt8(rest))
  }

  mutating func integer(_ number: Int, _ value: UInt64) {
    varint(UInt64(number) << 3)
    varint(value)
  }

  mutating func float(_ number: Int, _ value: Float) {
    varint(UInt64(number) << 3 | 5)
    withUnsafeBytes(of: value.bitPattern.littleEndian) { content += $0 }
  }

  mutating func bytes(_ number: Int, _ bytes: [UInt8]) {
    varint(UInt64(number) << 3 | 2)
    varint(UInt64(bytes.count))
    content += bytes
  }
}
