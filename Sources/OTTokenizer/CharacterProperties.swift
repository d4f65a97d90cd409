extension Unicode.GeneralCategory {
  var isMark: Bool { [.nonspacingMark, .spacingMark, .enclosingMark].contains(self) }

  var isNumber: Bool { [.decimalNumber, .letterNumber, .otherNumber].contains(self) }

  var isPunctuation: Bool {
    switch self {
    case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation, .initialPunctuation,
      .finalPunctuation, .otherPunctuation:
      true
    default: false
    }
  }
}

// MARK: - The tables that reference tokenizers were built with

// The reference (the package `tokenizers`, 0.23) takes its properties from
// sources of different age; the exceptions below are where a later
// version of Unicode changed a character that was already there. All were
// found by comparing every code point.
extension Unicode.Scalar {
  /// True when the character was there in version `major` of Unicode.
  func isAssigned(inUnicode major: Int) -> Bool {
    guard value >= 0x80 else { return true }
    guard let age = properties.age else { return false }
    return age.major <= major
  }

  /// `\w` around added tokens and in `Whitespace` (Unicode 16): no superscripts, but the joiners.
  var isWord: Bool {
    switch value {
    case 0xB2, 0xB3, 0xB9, 0xBC...0xBE: return false
    case 0x200C, 0x200D: return true
    default:
      let category = properties.generalCategory
      return
        (properties.isAlphabetic || category.isMark || category == .decimalNumber
        || category == .connectorPunctuation) && isAssigned(inUnicode: 16)
    }
  }

  /// Punctuation as BERT's splitting and `Punctuation` see it (Unicode 8, and
  /// every ASCII symbol).
  var isSplitPunctuation: Bool {
    switch value {
    case 0..<0x80:
      return (0x21...0x2F).contains(value) || (0x3A...0x40).contains(value)
        || (0x5B...0x60).contains(value) || (0x7B...0x7E).contains(value)
    case 0x166D, 0x111C9: return true
    default:
      return properties.generalCategory.isPunctuation && isAssigned(inUnicode: 8)
    }
  }

  /// Control characters as BERT's cleaning removes them (Unicode 8).
  var isCleanedControl: Bool {
    switch self {
    case "\t", "\n", "\r": return false
    case "\0", "\u{FFFD}": return true
    default:
      // Private use and the newest format characters differ in age only.
      return [.control, .format, .privateUse].contains(properties.generalCategory) && isAssigned(inUnicode: 8)
    }
  }

  /// Accents as BERT removes them (non-spacing marks of Unicode 8).
  var isStrippedAccent: Bool {
    switch value {
    case 0..<0x300, 0x1885, 0x1886, 0xA9BD, 0x111C9: return false
    case 0x1734, 0x1171E: return true
    default: return properties.generalCategory == .nonspacingMark && isAssigned(inUnicode: 8)
    }
  }

  /// Accents as the normalizer StripAccents removes them (marks of Unicode 9).
  var isCombiningMark: Bool {
    switch value {
    case 0..<0x300, 0x111C9: return false
    case 0x1CF2, 0x1CF3: return true
    default:
      return properties.generalCategory.isMark && isAssigned(inUnicode: 9)
    }
  }

  /// The blocks that BERT surrounds with spaces.
  var isChinese: Bool {
    switch value {
    case 0x4E00...0x9FFF, 0x3400...0x4DBF, 0x20000...0x2A6DF, 0x2A700...0x2B73F,
      0x2B740...0x2B81F, 0x2B920...0x2CEAF, 0xF900...0xFAFF, 0x2F800...0x2FA1F:
      return true
    default: return false
    }
  }

  /// UTF-8 form.
  var utf8: Unicode.UTF8.EncodedScalar {
    // A scalar always has a UTF-8 form.
    Unicode.UTF8.encode(self) ?? Unicode.UTF8.encodedReplacementCharacter
  }
}
