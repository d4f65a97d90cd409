/// A set of Unicode general categories.
struct CharacterCategories: OptionSet {
  let rawValue: UInt32

  static let uppercaseLetter = Self(rawValue: 1 << 0)
  static let lowercaseLetter = Self(rawValue: 1 << 1)
  static let titlecaseLetter = Self(rawValue: 1 << 2)
  static let modifierLetter = Self(rawValue: 1 << 3)
  static let otherLetter = Self(rawValue: 1 << 4)
  static let nonspacingMark = Self(rawValue: 1 << 5)
  static let spacingMark = Self(rawValue: 1 << 6)
  static let enclosingMark = Self(rawValue: 1 << 7)
  static let decimalNumber = Self(rawValue: 1 << 8)
  static let letterNumber = Self(rawValue: 1 << 9)
  static let otherNumber = Self(rawValue: 1 << 10)
  static let connectorPunctuation = Self(rawValue: 1 << 11)
  static let dashPunctuation = Self(rawValue: 1 << 12)
  static let openPunctuation = Self(rawValue: 1 << 13)
  static let closePunctuation = Self(rawValue: 1 << 14)
  static let initialPunctuation = Self(rawValue: 1 << 15)
  static let finalPunctuation = Self(rawValue: 1 << 16)
  static let otherPunctuation = Self(rawValue: 1 << 17)
  static let mathSymbol = Self(rawValue: 1 << 18)
  static let currencySymbol = Self(rawValue: 1 << 19)
  static let modifierSymbol = Self(rawValue: 1 << 20)
  static let otherSymbol = Self(rawValue: 1 << 21)
  static let spaceSeparator = Self(rawValue: 1 << 22)
  static let lineSeparator = Self(rawValue: 1 << 23)
  static let paragraphSeparator = Self(rawValue: 1 << 24)
  static let control = Self(rawValue: 1 << 25)
  static let format = Self(rawValue: 1 << 26)
  static let surrogate = Self(rawValue: 1 << 27)
  static let privateUse = Self(rawValue: 1 << 28)
  static let unassigned = Self(rawValue: 1 << 29)

  static let letter = Self(rawValue: 0x1F)
  static let mark = Self(rawValue: 0xE0)
  static let number = Self(rawValue: 0x700)
  static let punctuation = Self(rawValue: 0x3_F800)
  static let symbol = Self(rawValue: 0x3C_0000)
  static let separator = Self(rawValue: 0x1C0_0000)

  /// By the names of `\p{…}` in a regular expression.
  static let named: [String: Self] = [
    "L": .letter, "Lu": .uppercaseLetter, "Ll": .lowercaseLetter, "Lt": .titlecaseLetter,
    "Lm": .modifierLetter, "Lo": .otherLetter, "M": .mark, "Mn": .nonspacingMark,
    "Mc": .spacingMark, "Me": .enclosingMark, "N": .number, "Nd": .decimalNumber,
    "Nl": .letterNumber, "No": .otherNumber, "P": .punctuation, "Pc": .connectorPunctuation,
    "Pd": .dashPunctuation, "Ps": .openPunctuation, "Pe": .closePunctuation,
    "Pi": .initialPunctuation, "Pf": .finalPunctuation, "Po": .otherPunctuation, "S": .symbol,
    "Sm": .mathSymbol, "Sc": .currencySymbol, "Sk": .modifierSymbol, "So": .otherSymbol,
    "Z": .separator, "Zs": .spaceSeparator, "Zl": .lineSeparator, "Zp": .paragraphSeparator,
    "Cc": .control, "Cf": .format, "Co": .privateUse,
  ]
}

extension CharacterCategories {
  init(_ category: Unicode.GeneralCategory) {
    self =
      switch category {
      case .uppercaseLetter: .uppercaseLetter
      case .lowercaseLetter: .lowercaseLetter
      case .titlecaseLetter: .titlecaseLetter
      case .modifierLetter: .modifierLetter
      case .otherLetter: .otherLetter
      case .nonspacingMark: .nonspacingMark
      case .spacingMark: .spacingMark
      case .enclosingMark: .enclosingMark
      case .decimalNumber: .decimalNumber
      case .letterNumber: .letterNumber
      case .otherNumber: .otherNumber
      case .connectorPunctuation: .connectorPunctuation
      case .dashPunctuation: .dashPunctuation
      case .openPunctuation: .openPunctuation
      case .closePunctuation: .closePunctuation
      case .initialPunctuation: .initialPunctuation
      case .finalPunctuation: .finalPunctuation
      case .otherPunctuation: .otherPunctuation
      case .mathSymbol: .mathSymbol
      case .currencySymbol: .currencySymbol
      case .modifierSymbol: .modifierSymbol
      case .otherSymbol: .otherSymbol
      case .spaceSeparator: .spaceSeparator
      case .lineSeparator: .lineSeparator
      case .paragraphSeparator: .paragraphSeparator
      case .control: .control
      case .format: .format
      case .surrogate: .surrogate
      case .privateUse: .privateUse
      case .unassigned: .unassigned
      @unknown default: .unassigned
      }
  }
}

// MARK: - The tables that reference tokenizers were built with

// The reference (the package `tokenizers`, 0.23) takes its properties from
// four sources of different age; the exceptions below are where a later
// version of Unicode changed a character that was already there. All were
// found by comparing every code point.
extension Unicode.Scalar {
  /// True when the character was there in version `major` of Unicode.
  func isAssigned(inUnicode major: Int) -> Bool {
    guard value >= 0x80 else { return true }
    guard let age = properties.age else { return false }
    return age.major <= major
  }

  /// True when regular expressions (Unicode 16) see one of `categories`.
  func matches(_ categories: CharacterCategories) -> Bool {
    // A lowercase letter until Unicode 17.
    if self == "\u{295}" { return categories.contains(.lowercaseLetter) }
    return categories.contains(.init(properties.generalCategory)) && isAssigned(inUnicode: 16)
  }

  /// `\w` of the regular expressions in a Split.
  var isRegexWord: Bool {
    switch value {
    case 0xB2, 0xB3, 0xB9, 0xBC...0xBE: return true
    default:
      let categories: CharacterCategories = [.mark, .decimalNumber, .connectorPunctuation]
      return (properties.isAlphabetic || categories.contains(.init(properties.generalCategory)))
        && isAssigned(inUnicode: 16)
    }
  }

  /// `\w` of the reference's other engine, which joins around added tokens and
  /// splits in `Whitespace`: no superscripts, but the joiners.
  var isWord: Bool {
    switch value {
    case 0xB2, 0xB3, 0xB9, 0xBC...0xBE: return false
    case 0x200C, 0x200D: return true
    default: return isRegexWord
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
      return CharacterCategories.punctuation.contains(.init(properties.generalCategory))
        && isAssigned(inUnicode: 8)
    }
  }

  /// Control characters as BERT's cleaning removes them (Unicode 8).
  var isCleanedControl: Bool {
    switch self {
    case "\t", "\n", "\r": return false
    case "\0", "\u{FFFD}": return true
    default:
      let categories: CharacterCategories = [.control, .format, .privateUse]
      // Private use and the newest format characters differ in age only.
      return categories.contains(.init(properties.generalCategory)) && isAssigned(inUnicode: 8)
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
      return CharacterCategories.mark.contains(.init(properties.generalCategory))
        && isAssigned(inUnicode: 9)
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
