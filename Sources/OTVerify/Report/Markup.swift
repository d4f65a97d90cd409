import OTTensor

/// Text for HTML and XML.
enum Markup {
  /// `text` as character data or as the value of a quoted attribute.
  ///
  /// The five characters of markup become entities. What XML 1.0 cannot hold,
  /// control characters and the noncharacters U+FFFE and U+FFFF, becomes an
  /// escape that can be read, and so do the marks that turn the direction of
  /// text, lest a name shows in another order than it has.
  static func escaped(_ text: String) -> String {
    var result = ""
    result.reserveCapacity(text.utf8.count)
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      case "'": result += "&#39;"
      case "\n": result += "&#10;"
      case _ where isUnwelcome(scalar.value): result += scalar.escaped(asASCII: true)
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  private static func isUnwelcome(_ value: UInt32) -> Bool {
    value < 0x20 || (0x7F...0x9F).contains(value) || value & 0xFFFE == 0xFFFE
      || [0x061C, 0x200E, 0x200F].contains(value) || (0x202A...0x202E).contains(value)
      || (0x2066...0x2069).contains(value)
  }
}
