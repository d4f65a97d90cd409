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
  case characterMap(CharacterMap)
  case nmt
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
    case "Precompiled": self = .characterMap(try CharacterMap(section))
    case "Nmt": self = .nmt
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
    var keepsStart = true
    return try normalize(text, &keepsStart)
  }

  /// - Parameter keepsStart: made false where the first character is left out: the reference then takes what
  ///   remains for no beginning of a text.
  func normalize(_ text: [Unicode.Scalar], _ keepsStart: inout Bool) throws(Refusal) -> [Unicode.Scalar] {
    guard let first = text.first else { return text }
    switch self {
    case .sequence(let steps):
      var text = text
      for step in steps { text = try step.normalize(text, &keepsStart) }
      return text
    case .unicode(let form): return form.normalize(text)
    case .lowercase: return Self.lowercased(text)
    case .replace(let pattern, let content):
      let (replaced, isAtStart) = try pattern.replacing(in: text, with: content)
      if isAtStart, content.isEmpty { keepsStart = false }
      return replaced
    case .prepend(let prefix): return prefix + text
    case .strip(let left, let right):
      var rest = text[...]
      if left { rest = rest.drop(while: \.properties.isWhitespace) }
      if rest.count < text.count { keepsStart = false }
      if right {
        while let last = rest.last, last.properties.isWhitespace { rest.removeLast() }
      }
      return Array(rest)
    case .stripAccents:
      if first.isCombiningMark { keepsStart = false }
      return text.filter { !$0.isCombiningMark }
    case .byteLevel: return ByteAlphabet.spell(text)
    case .characterMap(let map): return map.normalize(text, &keepsStart)
    case .nmt:
      if Self.cleaned(first) == nil { keepsStart = false }
      return text.compactMap(Self.cleaned)
    case .bert(let cleansText, let separatesChinese, let stripsAccents, let lowercases):
      var text = text
      if cleansText {
        if first.isCleanedControl { keepsStart = false }
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

  /// The rules that SentencePiece calls nmt: nil for control characters, a space for line ends and other blanks.
  private static func cleaned(_ scalar: Unicode.Scalar) -> Unicode.Scalar? {
    switch scalar.value {
    case 0x1...0x8, 0xB, 0xE...0x1F, 0x7F, 0x8F, 0x9F: nil
    case 0x9, 0xA, 0xC, 0xD, 0x1680, 0x200B...0x200F, 0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD: " "
    default: scalar
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
