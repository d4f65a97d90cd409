import OTFoundation

/// Puts special tokens around those of the text: `post_processor`.
struct PostProcessor {
  /// Ids before and after those of the text.
  private(set) var leading: [Int] = []
  private(set) var trailing: [Int] = []

  init() {}

  init(_ section: TokenizerSection) throws {
    switch try section.type {
    case "ByteLevel":
      // It trims offsets, which are not kept here.
      break
    case "BertProcessing", "RobertaProcessing":
      leading = [try Self.id(section.section("cls"))]
      trailing = [try Self.id(section.section("sep"))]
    case "TemplateProcessing":
      try readTemplate(section)
    case "Sequence":
      for step in try section.sections("processors").map(PostProcessor.init) {
        leading = step.leading + leading
        trailing += step.trailing
      }
    case let type:
      throw section.unsupported("a post-processor of type '\(type)'")
    }
  }

  /// Reads `["[CLS]", 101]`.
  private static func id(_ section: TokenizerSection) throws -> Int {
    guard let pair = section.json.array, pair.count == 2, pair[0].string != nil,
      let id = pair[1].integer, (0...Int(Int32.max)).contains(id)
    else { throw section.refusal("tokenizer-syntax", "is not a token with its id") }
    return id
  }

  private mutating func readTemplate(_ section: TokenizerSection) throws {
    let tokens = try section.section("special_tokens")
    var hasText = false
    for item in try section.sections("single") {
      if let sequence = item.optional("Sequence") {
        guard !hasText, try sequence.string("id") == "A" else {
          throw item.unsupported("a template that does not hold the text once")
        }
        hasText = true
      } else {
        let name = try item.section("SpecialToken").string("id")
        let ids = try tokens.object(name)["ids"]?.array?.compactMap(\.integer) ?? []
        guard !ids.isEmpty, ids.allSatisfy((0...Int(Int32.max)).contains) else {
          throw item.refusal("tokenizer-vocabulary", "special token '\(name)' has no ids")
        }
        if hasText { trailing += ids } else { leading += ids }
      }
    }
    guard hasText else { throw section.unsupported("a template that does not hold the text once") }
  }
}
