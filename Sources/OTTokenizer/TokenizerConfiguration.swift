import OTFoundation
import OTJSON

/// What tokenizer_config.json and the files beside it say about a tokenizer, as the reference's `AutoTokenizer`
/// applies it.
struct TokenizerConfiguration {
  /// The members of special tokens that have a name, in the reference's order.
  private static let names = [
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
  ]

  private let root: TokenizerSection
  let kind: TokenizerKind
  /// Tokens with the ids that they were saved with, in the order of those.
  private var listed: [(id: Int, token: AddedToken)] = []
  private var named: [String: AddedToken] = [:]
  private var extra: [AddedToken] = []

  /// - Parameters:
  ///   - configuration: tokenizer_config.json.
  ///   - specialTokens: special_tokens_map.json, which counts where the former lists no added tokens.
  ///   - addedTokens: added_tokens.json, likewise.
  ///   - modelType: `model_type` of config.json.
  init(
    configuration: TokenizerSection?, specialTokens: TokenizerSection? = nil, addedTokens: TokenizerSection? = nil,
    modelType: String?
  ) throws {
    let empty = TokenizerSection(json: .object([:]), path: "", file: "")
    root = configuration ?? empty
    kind = TokenizerKind(class: try root.optionalString("tokenizer_class"), modelType: modelType)
    var known: [TokenText: AddedToken] = [:]
    let hasList = root.optional("added_tokens_decoder") != nil
    if hasList {
      for member in try root.object("added_tokens_decoder").members {
        let section = try root.section("added_tokens_decoder").section(member.key)
        guard let id = Int(member.key), (0...Int(Int32.max)).contains(id) else {
          throw section.refusal("tokenizer-vocabulary", "is not the id of a token")
        }
        listed.append((id, try AddedToken(section)))
      }
    }
    let sources = hasList ? [root] : [root] + (specialTokens.map { [$0] } ?? [])
    for source in sources {
      for name in Self.names {
        if let token = try Self.token(source.optional(name)) { named[name] = token }
      }
      for name in ["extra_special_tokens", "additional_special_tokens"] {
        guard let list = source.optional(name), list.json.array != nil else { continue }
        let tokens = try source.sections(name).compactMap { try Self.token($0) }
        if !tokens.isEmpty { extra = tokens }
      }
    }
    if !hasList, let addedTokens {
      let special = Set((named.values + extra).map { TokenText($0.content) })
      for member in addedTokens.json.object?.members ?? [] {
        guard let id = member.value.integer, (0...Int(Int32.max)).contains(id) else {
          throw addedTokens.refusal("tokenizer-vocabulary", "token '\(member.key.prefix(80))' has no valid id")
        }
        listed.append((id, AddedToken(member.key, isSpecial: special.contains(TokenText(member.key)))))
      }
    }
    listed.sort { $0.id < $1.id }
    // A token that is listed has the properties of the list.
    for (_, token) in listed { known[TokenText(token.content)] = token }
    for (name, token) in named {
      named[name] = known[TokenText(token.content)] ?? token
      named[name]?.isSpecial = true
    }
  }

  /// A special token: its text, or an object.
  private static func token(_ section: TokenizerSection?) throws -> AddedToken? {
    guard let section else { return nil }
    if let text = section.json.string { return AddedToken(text, isSpecial: true) }
    var token = try AddedToken(section)
    token.isSpecial = true
    return token
  }

  /// A member that is true or false; nil where it is neither.
  func flag(_ name: String) -> Bool? { root.json[name]?.bool }

  /// A member that is a number of things, up to some thousand; nil where it is not.
  func count(_ name: String) -> Int? { root.json[name]?.integer.flatMap { (0...10_000).contains($0) ? $0 : nil } }

  /// The text of a special token with a name.
  func text(_ name: String) -> String? { named[name]?.content }

  /// The texts that the list gives to ids.
  var listedTexts: [Int: String] { Dictionary(listed.map { ($0.id, $0.token.content) }, uniquingKeysWith: { $1 }) }

  /// Names special tokens that the configuration does not name.
  mutating func setDefaults(_ texts: KeyValuePairs<String, String>) {
    for (name, text) in texts where named[name] == nil && root.json[name] != .some(.null) {
      named[name] =
        listed.first { TokenText($0.token.content) == TokenText(text) }?.token ?? AddedToken(text, isSpecial: true)
    }
  }

  /// Takes these for the special tokens without a name, where the configuration has none.
  mutating func setDefaultExtra(_ tokens: [AddedToken]) {
    if extra.isEmpty { extra = tokens }
  }

  /// Looks for the listed tokens in the text as it is, not normalized.
  mutating func listRaw() {
    for index in listed.indices { listed[index].token.isNormalized = false }
    for (name, token) in named where listed.contains(where: { $0.token.content == token.content }) {
      named[name]?.isNormalized = false
    }
  }

  /// The lists of tokens that are added to those of a tokenizer, in turn.
  ///
  /// - Parameter tokens: those of the tokenizer.
  func additions(to tokens: [AddedToken]) -> [[AddedToken]] {
    var known = Set((tokens + listed.map(\.token)).map { TokenText($0.content) })
    let special = Self.names.compactMap { named[$0] } + extra
    let missing = special.filter { known.insert(TokenText($0.content)).inserted }
    return [listed.map(\.token) + missing, special]
  }
}

/// The reference's class of a tokenizer, as far as more than its tokenizer.json depends on it.
enum TokenizerKind {
  case bert, gpt2, roberta, qwen2, llama, xlmRoberta, t5
  /// What tokenizer.json or the SentencePiece model says, and nothing else.
  case general
  /// Another class: only its tokenizer.json is read.
  case other(String)

  /// Types of models whose tokenizers are what their files say, whatever class they name.
  private static let generalTypes: Set<String> = [
    "mistral", "mixtral", "ministral", "ministral3", "phi3", "phimoe", "granite", "granitemoe", "olmo2", "stablelm",
    "modernbert", "nemotron", "gpt_bigcode", "glm", "glm4", "ernie4_5", "jamba", "internlm2", "minicpm3",
  ]

  init(class name: String?, modelType: String?) {
    let base = name.map { $0.hasSuffix("Fast") ? String($0.dropLast(4)) : $0 }
    if let modelType, Self.generalTypes.contains(modelType) {
      self = .general
    } else if let base {
      self =
        switch base {
        case "BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer": .bert
        case "GPT2Tokenizer": .gpt2
        case "RobertaTokenizer", "BartTokenizer", "LongformerTokenizer": .roberta
        case "Qwen2Tokenizer": .qwen2
        case "LlamaTokenizer": .llama
        case "XLMRobertaTokenizer": .xlmRoberta
        case "T5Tokenizer": .t5
        case "PreTrainedTokenizer", "TokenizersBackend", "BloomTokenizer", "GemmaTokenizer": .general
        default: .other(base)
        }
    } else {
      self =
        switch modelType {
        case "bert", "distilbert", "electra", "mobilebert", "nomic_bert": .bert
        case "gpt2", "opt", "gptj", "gpt_neo", "phi", "codegen", "starcoder2": .gpt2
        case "roberta", "bart", "longformer": .roberta
        case "qwen2", "qwen3", "qwen2_moe", "qwen3_moe": .qwen2
        case "xlm-roberta": .xlmRoberta
        case "t5", "mt5": .t5
        default: .general
        }
    }
  }
}
