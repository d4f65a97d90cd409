extension Unicode.Scalar {
  /// The character, or for one of Unicode 15 or 16 an older character of the same category.
  ///
  /// The reference's patterns know Unicode 16, the library of Debian 12 knows 14 and that of
  /// Debian 13 knows 15.1: to them, newer letters are no letters.
  var inOldUnicode: Unicode.Scalar {
    // Below U+10000 these versions add a few dozen characters.
    switch value {
    case 0xCF3, 0xECE, 0x1C89...0x1C8A, 0x2FFC...0x2FFF, 0x31E4...0x31EF, 0xA7CB...0xA7CD, 0xA7DA...0xA7DC: break
    case 0x897, 0x1B4E...0x1B4F, 0x1B7F, 0x2427...0x2429: break
    case 0x10000...: break
    default: return self
    }
    guard let age = properties.age, (15...16).contains(age.major) else { return self }
    if properties.isIdeographic { return "\u{20000}" }
    switch properties.generalCategory {
    case .uppercaseLetter: return "\u{10400}"
    case .lowercaseLetter: return "\u{10428}"
    case .modifierLetter: return "\u{16B40}"
    case .otherLetter: return "\u{10300}"
    case .nonspacingMark: return "\u{11038}"
    case .spacingMark: return "\u{11082}"
    case .decimalNumber: return "\u{104A0}"
    case .letterNumber: return "\u{10140}"
    case .otherNumber: return "\u{10107}"
    case .dashPunctuation: return "\u{10EAD}"
    case .otherPunctuation: return "\u{10100}"
    case .mathSymbol: return "\u{1D6C1}"
    case .otherSymbol: return "\u{1D100}"
    case .format: return "\u{110BD}"
    default: return self
    }
  }
}
