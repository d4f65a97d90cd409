import OTJSON

extension GGUFTokenizer {
  /// How a text is split before byte pairs, as tokenizer.json says it.
  struct Splitting {
    let json: JSONValue
    /// True where text is composed first (NFC).
    var isComposed = false
    /// True where a whole word that is a token is not split.
    var ignoresMerges = false
    /// True where the first token goes before a text unless the file says no.
    var addsBeginning = false
  }

  private static let contractions = #"(?i:'s|'t|'re|'ve|'m|'ll|'d)"#
  private static let rest = #" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  private static let casedRest = #" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  private static let upper = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"#
  private static let lower = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"#
  private static let before = #"[^\r\n\p{L}\p{N}]?"#

  /// The splitting that llama.cpp calls `pre`; nil for one that is not known.
  static func splitting(_ pre: String) -> Splitting? {
    switch pre {
    case "gpt-2", "phi-2", "mpt", "olmo", "jais", "exaone4": return Splitting(json: bytes(splits: true))
    case "llama-bpe", "llama3", "llama-v3", "falcon3":
      return Splitting(
        json: split(#"\#(contractions)|\#(before)\p{L}+|\p{N}{1,3}|\#(rest)"#), ignoresMerges: true, addsBeginning: true
      )
    case "chatglm-bpe", "glm4":
      return Splitting(json: split(#"\#(contractions)|\#(before)\p{L}+|\p{N}{1,3}|\#(rest)"#))
    case "deepseek-v3":
      let words = ##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##
      let others = #"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
      let patterns = [#"\p{N}{1,3}"#, #"[一-龥぀-ゟ゠-ヿ]+"#, words + others]
      return Splitting(json: sequence(patterns.map(isolated) + [bytes(splits: false)]), addsBeginning: true)
    case "qwen2", "deepseek-r1-qwen", "megrez":
      return Splitting(json: split(#"\#(contractions)|\#(before)\p{L}+|\p{N}|\#(rest)"#), isComposed: true)
    case "stablelm2": return Splitting(json: split(#"\#(contractions)|\#(before)\p{L}+|\p{N}|\#(rest)"#))
    case "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone":
      let digits = JSONValue.object(["type": .string("Digits"), "individual_digits": .bool(true)])
      return Splitting(json: sequence([digits, bytes(splits: true)]))
    case "tekken":
      let words = #"\#(before)\#(upper)*\#(lower)+|\#(before)\#(upper)+\#(lower)*"#
      return Splitting(json: split(#"\#(words)|\p{N}|\#(casedRest)"#), ignoresMerges: true, addsBeginning: true)
    case "gpt-4o", "llama4":
      let words =
        #"\#(before)\#(upper)*\#(lower)+\#(contractions)?|\#(before)\#(upper)+\#(lower)*\#(contractions)?"#
      return Splitting(json: split(#"\#(words)|\p{N}{1,3}|\#(casedRest)"#))
    case "bloom": return Splitting(json: split(#" ?[^(\s|[.,!?…。，、।۔،])]+"#))
    default: return nil
    }
  }

  private static func isolated(_ pattern: String) -> JSONValue {
    .object([
      "type": .string("Split"), "pattern": .object(["Regex": .string(pattern)]), "behavior": .string("Isolated"),
      "invert": .bool(false),
    ])
  }

  private static func split(_ pattern: String) -> JSONValue { sequence([isolated(pattern), bytes(splits: false)]) }

  private static func bytes(splits: Bool) -> JSONValue {
    .object([
      "type": .string("ByteLevel"), "add_prefix_space": .bool(false), "trim_offsets": .bool(true),
      "use_regex": .bool(splits),
    ])
  }

  private static func sequence(_ steps: [JSONValue]) -> JSONValue {
    .object(["type": .string("Sequence"), "pretokenizers": .array(steps)])
  }
}
