import OTFoundation

/// Changes text before it is split: `normalizer` of tokenizer.json.
indirect enum Normalizer: Sendable {
  case sequence([Normalizer])
  case unicode(NormalizationForm)
  case lowercase
  case replace(SplitPattern, [Unicode.Scalar])
  case prepend([Unicode.Scalar])
  case strip(left: Bool, right: Bool)
  case stripAccents
  case byteLevel
  case bert(cleansText: Bool, separatesChinese: Bool, stripsAccents: Bool, lowercases: Bool)

  init(_ section: TokenizerSection) throws {
    switch try section.type {
    case "Sequence": self = .sequence(try section.sections("normalizers").map(Normalizer.init))
    case "NFC": self = .unicode(.nfc)
    case "NFD": self = .unicode(.nfd)
    case "NFKC": self = .unicode(.nfkc)
    case "NFKD": self = .unicode(.nfkd)
    case "Lowercase": self = .lowercase
    case "Replace":
      self = .replace(
        try SplitPattern(try section.section("pattern")), try section.scalars("content"))
    case "Prepend": self = .prepend(try section.scalars("prepend"))
    case "Strip":
      self = .strip(
        left: try section.bool("strip_left", default: true),
        right: try section.bool("strip_right", default: true))
    case "StripAccents": self = .stripAccents
    case "ByteLevel": self = .byteLevel
    case "BertNormalizer":
      let lowercases = try section.bool("lowercase", default: true)
      self = .bert(
        cleansText: try section.bool("clean_text", default: true),
        separatesChinese: try section.bool("handle_chinese_chars", default: true),
        stripsAccents: try section.bool("strip_accents", default: lowercases),
        lowercases: lowercases)
    case let type: throw section.unsupported("a normalizer of type '\(type)'")
    }
  }

  func normalize(_ text: [Unicode.Scalar]) throws(Refusal) -> [Unicode.Scalar] {
    switch self {
    case .sequence(let steps):
      var text = text
      for step in steps { text = try step.normalize(text) }
      return text
    case .unicode(let form): return form.normalize(text)
    case .lowercase: return Self.lowercased(text)
    case .replace(let pattern, let content): return try pattern.replacing(in: text, with: content)
    case .prepend(let prefix): return text.isEmpty ? text : prefix + text
    case .strip(let left, let right):
      var rest = text[...]
      if left { rest = rest.drop(while: \.properties.isWhitespace) }
      if right {
        while let last = rest.last, last.properties.isWhitespace { rest.removeLast() }
      }
      return Array(rest)
    case .stripAccents: return text.filter { !$0.isCombiningMark }
    case .byteLevel: return ByteAlphabet.spell(text)
    case .bert(let cleansText, let separatesChinese, let stripsAccents, let lowercases):
      var text = text
      if cleansText {
        text = text.filter { !$0.isCleanedControl }
        text = text.map { $0.properties.isWhitespace ? " " : $0 }
      }
      if separatesChinese {
        text = text.flatMap { $0.isChinese ? [" ", $0, " "] : [$0] }
      }
      if stripsAccents {
        text = NormalizationForm.nfd.normalize(text).filter { !$0.isStrippedAccent }
      }
      return lowercases ? Self.lowercased(text) : text
    }
  }

  /// Maps each character by itself: a final sigma is like any other.
  private static func lowercased(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
    var result: [Unicode.Scalar] = []
    result.reserveCapacity(text.count)
    for scalar in text {
      if ("A"..."Z").contains(scalar) {
        result.append(Unicode.Scalar(UInt8(scalar.value) + 32))
      } else if scalar.isASCII {
        result.append(scalar)
      } else {
        result += scalar.properties.lowercaseMapping.unicodeScalars
      }
    }
    return result
  }
}
