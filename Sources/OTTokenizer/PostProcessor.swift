import OTFoundation

/// Puts special tokens around those of a text, or of a pair of texts: `post_processor`.
struct PostProcessor {
  /// A part of what is made: special tokens, or one of the texts.
  private enum Part {
    case special([Int], type: Int)
    case text(isSecond: Bool, type: Int)

    var isText: Bool { if case .text = self { true } else { false } }
  }

  /// Ids before and after those of one text.
  private(set) var leading: [Int] = []
  private(set) var trailing: [Int] = []
  /// The parts of a pair; nil where its processors have more than one say about pairs.
  private var pair: [Part]? = [.text(isSecond: false, type: 0), .text(isSecond: true, type: 1)]
  /// True when it leaves a text, and a pair, as it is.
  private var isPlain = true

  init() {}

  init(_ section: TokenizerSection) throws {
    switch try section.type {
    case "ByteLevel":
      // It trims offsets, which are not kept here.
      break
    case "BertProcessing", "RobertaProcessing":
      let (cls, sep) = (try Self.id(section.section("cls")), try Self.id(section.section("sep")))
      (leading, trailing, isPlain) = ([cls], [sep], false)
      let isRoberta = try section.type == "RobertaProcessing"
      pair =
        [.special([cls], type: 0), .text(isSecond: false, type: 0), .special([sep], type: 0)]
        // RoBERTa's has a separator more, and one type.
        + (isRoberta ? [.special([sep], type: 0)] : [])
        + [.text(isSecond: true, type: isRoberta ? 0 : 1), .special([sep], type: isRoberta ? 0 : 1)]
    case "TemplateProcessing":
      try readTemplate(section)
    case "Sequence":
      for step in try section.sections("processors").map(PostProcessor.init) where !step.isPlain {
        leading = step.leading + leading
        trailing += step.trailing
        pair = isPlain ? step.pair : nil
        isPlain = false
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
    let parts = try Self.parts(of: "single", in: section)
    guard parts.count(where: \.isText) == 1 else {
      throw section.unsupported("a template that does not hold the text once")
    }
    var hasText = false
    for part in parts {
      guard case .special(let ids, _) = part else {
        hasText = true
        continue
      }
      if hasText { trailing += ids } else { leading += ids }
    }
    if section.optional("pair") != nil { pair = try Self.parts(of: "pair", in: section) }
    isPlain = false
  }

  /// The parts of a template.
  private static func parts(of template: String, in section: TokenizerSection) throws -> [Part] {
    let tokens = try section.section("special_tokens")
    return try section.sections(template).map { item in
      func type(_ part: TokenizerSection) throws -> Int {
        part.optional("type_id") == nil ? 0 : try part.count("type_id")
      }
      if let sequence = item.optional("Sequence") {
        let id = try sequence.string("id")
        guard id == "A" || (id == "B" && template == "pair") else {
          throw item.unsupported("a template that does not hold the text once")
        }
        return .text(isSecond: id == "B", type: try type(sequence))
      }
      let part = try item.section("SpecialToken")
      let name = try part.string("id")
      let ids = try tokens.object(name)["ids"]?.array?.compactMap(\.integer) ?? []
      guard !ids.isEmpty, ids.allSatisfy((0...Int(Int32.max)).contains) else {
        throw item.refusal("tokenizer-vocabulary", "special token '\(name)' has no ids")
      }
      return .special(ids, type: try type(part))
    }
  }

  /// True when it says how a pair is put together.
  var hasPair: Bool { pair != nil }

  /// The special tokens of a pair.
  private var pairSpecialIDs: [Int] {
    (pair ?? []).flatMap { part -> [Int] in
      if case .special(let ids, _) = part { ids } else { [] }
    }
  }

  /// The number of special tokens of a pair.
  var pairSpecialCount: Int { pairSpecialIDs.count }

  /// The largest id of a special token, which need not be one of the vocabulary's; nil where there are none.
  var largestID: Int? { (leading + trailing + pairSpecialIDs).max() }

  /// The tokens of two texts with the special ones, the segment of each, and the places of the second text's.
  ///
  /// - Precondition: `hasPair`.
  func joined(_ first: [Int], _ second: [Int]) -> (tokenIDs: [Int], types: [Int], second: Range<Int>) {
    var (tokenIDs, types): ([Int], [Int]) = ([], [])
    var place = 0..<0
    for part in pair ?? [] {
      let (ids, type) =
        switch part {
        case .special(let ids, let type): (ids, type)
        case .text(let isSecond, let type): (isSecond ? second : first, type)
        }
      if case .text(isSecond: true, _) = part { place = tokenIDs.count..<tokenIDs.count + ids.count }
      tokenIDs += ids
      types += [Int](repeating: type, count: ids.count)
    }
    return (tokenIDs, types, place)
  }
}
