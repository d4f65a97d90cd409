import OTFoundation
import OTJSON

/// A tokenizer on its way into a GGUF file: tokenizer.json and what goes with it as keys, the reverse of
/// `GGUFTokenizer`.
package struct GGUFVocabulary {
  /// tokenizer.json.
  private let root: JSONValue
  /// tokenizer_config.json, special_tokens_map.json and config.json, where they are there.
  private let configuration, special, model: JSONValue?
  private let template: String?
  private let file: String

  private var tokens: [String?]
  private var types: [Int]
  private var ids: [String: Int] = [:]

  /// - Parameters:
  ///   - tokenizer: tokenizer.json.
  ///   - configuration: tokenizer_config.json.
  ///   - special: special_tokens_map.json.
  ///   - model: config.json.
  ///   - template: a chat template that lies beside them.
  ///   - tokenCount: rows of the embedding, each of which needs a token.
  ///   - file: named in refusals.
  /// - Throws: `Refusal` with rule `export-tokenizer`.
  package init(
    tokenizer: JSONValue, configuration: JSONValue?, special: JSONValue?, model: JSONValue?, template: String?,
    tokenCount: Int, file: String
  ) throws {
    (root, self.configuration, self.special, self.model) = (tokenizer, configuration, special, model)
    (self.template, self.file) = (template, file)
    tokens = [String?](repeating: nil, count: tokenCount)
    types = [Int](repeating: 5, count: tokenCount)
    func refusal(_ message: String) -> Refusal {
      Refusal("export-tokenizer", message, file: file, remedy: "export it --to safetensors")
    }
    func add(_ token: String, _ id: Int?, type: Int) throws {
      guard let id, tokens.indices.contains(id) else {
        throw refusal("the token '\(token.prefix(40))' has no row of the \(tokenCount) of the embedding")
      }
      guard ids[token] == nil || ids[token] == id else {
        throw refusal("the token '\(token.prefix(40))' is there twice, which llama.cpp does not bear")
      }
      if let old = tokens[id], old != token { ids[old] = nil }
      (tokens[id], types[id], ids[token]) = (token, type, id)
    }
    for (token, id) in root["model"]?["vocab"]?.object?.members ?? [] { try add(token, id.integer, type: 1) }
    for token in root["added_tokens"]?.array ?? [] {
      guard let text = token["content"]?.string else { throw refusal("an added token has no text") }
      try add(text, token["id"]?.integer, type: token["special"]?.bool == true ? 3 : 4)
    }
  }

  private func refusal(_ message: String) -> Refusal {
    Refusal(
      "export-tokenizer", message, file: file,
      remedy: "export it --to safetensors, or take away tokenizer.json: llama.cpp then takes token ids")
  }

  /// The keys.
  ///
  /// - Throws: `Refusal` with rule `export-tokenizer` for a tokenizer that llama.cpp does not have.
  package func keys() throws -> [(name: String, value: GGUFValue)] {
    var keys: [(name: String, value: GGUFValue)] = []
    func put(_ name: String, _ value: GGUFValue) { keys.append(("tokenizer.ggml.\(name)", value)) }
    var (tokens, types) = (tokens.enumerated().map { $1 ?? "[PAD\($0)]" }, types)
    let kind = root["model"]?["type"]?.string ?? (root["model"]?["merges"] == nil ? "" : "BPE")
    let ends = try ends
    var isWords = false
    switch kind {
    case "BPE" where root["model"]?["byte_fallback"]?.bool == true:
      put("model", .string("llama"))
      put("pre", .string("default"))
      for index in types.indices where types[index] == 1 {
        if tokens[index].utf8.count == 6, tokens[index].hasPrefix("<0x"), tokens[index].hasSuffix(">") {
          types[index] = 6
        }
      }
      if let unknown = id("unk_token") { types[unknown] = 2 }
      put("tokens", .strings(tokens))
      put("scores", .numbers(try scores(tokens)))
      put("token_type", .integers(types))
      put("add_space_prefix", .bool(try addsSpace()))
    case "BPE":
      put("model", .string("gpt2"))
      put("pre", .string(try pre()))
      put("tokens", .strings(tokens))
      put("token_type", .integers(types))
      put("merges", .strings(try merges()))
    case "WordPiece":
      isWords = true
      guard root["model"]?["continuing_subword_prefix"]?.string ?? "##" == "##",
        root["normalizer"]?["type"]?.string == "BertNormalizer"
      else { throw refusal("its word pieces are not BERT's") }
      tokens = tokens.enumerated().map { index, token in
        guard types[index] == 1, !(token.hasPrefix("[") && token.hasSuffix("]")) else { return token }
        return token.hasPrefix("##") ? String(token.dropFirst(2)) : "▁" + token
      }
      guard Set(tokens).count == tokens.count else { throw refusal("it has a piece of a word twice") }
      put("model", .string("bert"))
      put("tokens", .strings(tokens))
      put("token_type", .integers(types))
      put("normalizer.lowercase", .bool(root["normalizer"]?["lowercase"]?.bool ?? true))
      if let strips = root["normalizer"]?["strip_accents"]?.bool { put("normalizer.strip_accents", .bool(strips)) }
    default: throw refusal("tokenizers of the kind '\(kind.prefix(40))' are not written")
    }
    // What a text is put between counts, whatever it is called.
    let first = ends.first ?? id("bos_token") ?? (isWords ? id("cls_token") : nil) ?? modelID("bos_token_id")
    let last =
      ends.last ?? id("eos_token") ?? (isWords ? id("sep_token") : nil) ?? modelID("eos_token_id")
    // Of word pieces llama.cpp takes the ids of BERT's own vocabulary where it is not told others.
    let words = isWords ? self.words(ends) : [:]
    for (name, id) in [
      ("bos_token_id", first), ("eos_token_id", last), ("unknown_token_id", words["unk_token"] ?? id("unk_token")),
      ("padding_token_id", words["pad_token"] ?? id("pad_token")),
      ("seperator_token_id", words["sep_token"] ?? id("sep_token")),
      ("cls_token_id", words["cls_token"] ?? id("cls_token")),
      ("mask_token_id", words["mask_token"] ?? id("mask_token")), ("eot_token_id", turnEnd(last)),
    ] {
      if let id { put(name, .integer(id)) }
    }
    put("add_bos_token", .bool(ends.first != nil))
    put("add_eos_token", .bool(ends.last != nil && !isWords))
    put("add_sep_token", .bool(ends.last != nil && isWords))
    if let template = template ?? chatTemplate { keys.append(("tokenizer.chat_template", .string(template))) }
    return keys
  }

  // MARK: Special tokens

  private func id(_ name: String) -> Int? {
    for source in [configuration, special] {
      if let text = source?[name]?.string ?? source?[name]?["content"]?.string { return ids[text] }
    }
    return nil
  }

  /// The special tokens of word pieces as tokenizer.json has them.
  private func words(_ ends: (first: Int?, last: Int?)) -> [String: Int] {
    var found: [String: Int] = [:]
    found["cls_token"] = ends.first
    found["sep_token"] = ends.last
    found["unk_token"] = root["model"]?["unk_token"]?.string.flatMap { ids[$0] }
    for (name, text) in [("pad_token", "[PAD]"), ("mask_token", "[MASK]")] where id(name) == nil {
      found[name] = ids[text]
    }
    return found
  }

  private func modelID(_ name: String) -> Int? {
    (model?[name]?.integer ?? model?[name]?.array?.first?.integer).flatMap { tokens.indices.contains($0) ? $0 : nil }
  }

  /// The token that ends a turn where it is another than the one that ends a text.
  private func turnEnd(_ last: Int?) -> Int? {
    ["<|eot_id|>", "<|im_end|>", "<end_of_turn>", "<|end|>"].lazy.compactMap { ids[$0] }.first { $0 != last }
  }

  /// The tokens that are put before and behind a text.
  private var ends: (first: Int?, last: Int?) {
    get throws {
      var found: (Int?, Int?) = (nil, nil)
      for processor in steps(root["post_processor"], "processors") {
        switch processor["type"]?.string {
        case "TemplateProcessing":
          let parts = processor["single"]?.array ?? []
          let place = parts.firstIndex { $0["Sequence"] != nil } ?? 0
          func token(_ part: JSONValue?) -> Int? { part?["SpecialToken"]?["id"]?.string.flatMap { ids[$0] } }
          guard parts.count <= place + 2, place <= 1 else { throw refusal("it puts several tokens around a text") }
          found = (place == 1 ? token(parts.first) : nil, parts.count > place + 1 ? token(parts.last) : nil)
        case "BertProcessing", "RobertaProcessing":
          found = (
            processor["cls"]?.array?.last?.integer, processor["sep"]?.array?.last?.integer
          )
        default: break
        }
      }
      return found
    }
  }

  private var chatTemplate: String? {
    let member = configuration?["chat_template"]
    return member?.string
      ?? member?.array?.first { $0["name"]?.string == "default" }?["template"]?.string
  }

  /// The parts of a sequence, or the one that is none.
  private func steps(_ section: JSONValue?, _ member: String) -> [JSONValue] {
    guard let section, section != .null else { return [] }
    return section["type"]?.string == "Sequence" ? section[member]?.array ?? [] : [section]
  }

  // MARK: Byte pairs

  private func merges() throws -> [String] {
    try (root["model"]?["merges"]?.array ?? []).map { merge in
      if let text = merge.string { return text }
      let pair = merge.array?.compactMap(\.string) ?? []
      guard pair.count == 2, !pair.contains(where: { $0.contains(" ") }) else {
        throw refusal("a merge is of other than two pieces without spaces")
      }
      return "\(pair[0]) \(pair[1])"
    }
  }

  /// llama.cpp's name of the way in which a text is split.
  private func pre() throws -> String {
    let own = steps(root["pre_tokenizer"], "pretokenizers").map(Self.signature)
    let isComposed = steps(root["normalizer"], "normalizers").map { $0["type"]?.string } == ["NFC"]
    guard isComposed || root["normalizer"] ?? .null == .null else { throw refusal("its normalizer is not llama.cpp's") }
    let ignoresMerges = root["model"]?["ignore_merges"]?.bool ?? false
    for name in Self.names {
      guard let splitting = GGUFTokenizer.splitting(name) else { continue }
      let steps = steps(splitting.json, "pretokenizers").map(Self.signature)
      // Of tokens that merges make, ignoring these changes nothing.
      guard steps == own, splitting.isComposed == isComposed, splitting.ignoresMerges || !ignoresMerges else {
        continue
      }
      return name
    }
    throw refusal("it splits texts in a way that is none of llama.cpp's")
  }

  /// One name of each kind of splitting.
  private static let names = ["gpt-2", "smollm", "llama-bpe", "qwen2", "stablelm2", "tekken", "gpt-4o", "bloom"]

  /// What counts of a step.
  private static func signature(_ step: JSONValue) -> String {
    let type = step["type"]?.string ?? ""
    switch type {
    case "Split":
      let pattern = step["pattern"]?["Regex"]?.string ?? step["pattern"]?["String"].map { "=\($0)" } ?? ""
      return "\(type) \(step["behavior"]?.string ?? "") \(step["invert"]?.bool ?? false) \(pattern)"
    case "Digits": return "\(type) \(step["individual_digits"]?.bool ?? false)"
    case "ByteLevel":
      return "\(type) \(step["add_prefix_space"]?.bool ?? true) \(step["use_regex"]?.bool ?? true)"
    default: return type
    }
  }

  // MARK: SentencePiece

  /// Scores by which pieces are joined in the order of the merges.
  private func scores(_ tokens: [String]) throws -> [Double] {
    var scores = [Double](repeating: -1e6, count: tokens.count)
    for (rank, merge) in try pairs().enumerated().reversed() {
      if let id = ids[merge] { scores[id] = -Double(rank) }
    }
    for index in types.indices where types[index] != 1 { scores[index] = 0 }
    return scores
  }

  /// The piece that each merge makes.
  private func pairs() throws -> [String] {
    try (root["model"]?["merges"]?.array ?? []).map { merge in
      if let pair = merge.array?.compactMap(\.string), pair.count == 2 { return pair[0] + pair[1] }
      guard let text = merge.string, let space = text.firstIndex(of: " ") else { throw refusal("a merge is no text") }
      return String(text[..<space] + text[text.index(after: space)...])
    }
  }

  /// True when a space goes before a text.
  private func addsSpace() throws -> Bool {
    var adds = false
    for step in steps(root["normalizer"], "normalizers") {
      switch step["type"]?.string {
      case "Prepend" where step["prepend"]?.string == "▁": adds = true
      case "Replace" where step["content"]?.string == "▁": break
      case let type: throw refusal("it normalizes texts by '\(type ?? "")', as llama.cpp does not")
      }
    }
    for step in steps(root["pre_tokenizer"], "pretokenizers") {
      switch step["type"]?.string {
      case "Metaspace":
        adds = step["prepend_scheme"]?.string.map { $0 != "never" } ?? step["add_prefix_space"]?.bool ?? true
      // Gemma: spaces have been replaced, so that nothing is split.
      case "Split" where step["pattern"]?["String"]?.string == " ": break
      case let type: throw refusal("it splits texts by '\(type ?? "")', as llama.cpp does not")
      }
    }
    return adds
  }
}
