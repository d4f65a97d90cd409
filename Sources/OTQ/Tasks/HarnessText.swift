/// Operations on text as Python does them, code point by code point, where lm-eval's prompts use them.
enum HarnessText {
  /// True for what `str.isspace` and `\s` take for white space.
  static func isSpace(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0x09...0x0D, 0x1C...0x20, 0x85, 0xA0, 0x1680, 0x2000...0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000: true
    default: false
    }
  }

  /// `text.strip()`.
  static func strip(_ text: String) -> String {
    let scalars = text.unicodeScalars
    guard let first = scalars.firstIndex(where: { !isSpace($0) }), let last = scalars.lastIndex(where: { !isSpace($0) })
    else { return "" }
    return String(scalars[first...last])
  }

  /// A text without the white space at its end, and that white space.
  static func splitTrailingSpace(_ text: String) -> (text: String, space: String) {
    let scalars = text.unicodeScalars
    let end = scalars.lastIndex { !isSpace($0) }.map { scalars.index(after: $0) } ?? scalars.startIndex
    return (String(scalars[..<end]), String(scalars[end...]))
  }

  /// `text.capitalize()`: the first letter in title case, all others small. (A sigma at the end of a word becomes σ.)
  static func capitalize(_ text: String) -> String {
    guard let first = text.unicodeScalars.first else { return "" }
    return first.properties.titlecaseMapping
      + text.unicodeScalars.dropFirst().map(\.properties.lowercaseMapping).joined()
  }

  /// `text.replace(old, new)`.
  static func replace(_ text: String, _ old: String, _ new: String) -> String {
    let (scalars, wanted) = (Array(text.unicodeScalars), Array(old.unicodeScalars))
    var result = String.UnicodeScalarView()
    var index = 0
    while index < scalars.count {
      if scalars[index...].starts(with: wanted) {
        result.append(contentsOf: new.unicodeScalars)
        index += wanted.count
      } else {
        result.append(scalars[index])
        index += 1
      }
    }
    return String(result)
  }

  /// `len(text)`.
  static func length(_ text: String) -> Int { text.unicodeScalars.count }

  /// `len(re.split(r"\s+", text))`: one more than there are runs of white space.
  static func wordCount(_ text: String) -> Int {
    var (count, wasSpace) = (1, false)
    for scalar in text.unicodeScalars {
      let isSpace = isSpace(scalar)
      if isSpace, !wasSpace { count += 1 }
      wasSpace = isSpace
    }
    return count
  }

  /// `re.sub(r"\[.*?\]", "", text)`: without what stands in square brackets on one line.
  static func withoutBrackets(_ text: String) -> String {
    let scalars = Array(text.unicodeScalars)
    var result = String.UnicodeScalarView()
    var index = 0
    while index < scalars.count {
      if scalars[index] == "[", let end = scalars[index...].firstIndex(where: { $0 == "]" || $0 == "\n" }),
        scalars[end] == "]"
      {
        index = end + 1
      } else {
        result.append(scalars[index])
        index += 1
      }
    }
    return String(result)
  }
}
