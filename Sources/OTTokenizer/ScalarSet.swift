/// A set of characters in a regular expression: `[^\s\p{L}\p{N}]`.
struct ScalarSet: Sendable {
  enum Member: Sendable {
    case range(ClosedRange<UInt32>)
    case categories(CharacterCategories)
    case whitespace
    case word
    indirect case set(ScalarSet)
  }

  let members: [Member]
  let isNegated: Bool
  let ignoresCase: Bool
  /// Membership of the first 128 characters, one bit each.
  private var ascii: (UInt64, UInt64) = (0, 0)

  init(_ members: [Member], isNegated: Bool = false, ignoresCase: Bool = false) {
    self.members = members
    self.isNegated = isNegated
    self.ignoresCase = ignoresCase
    for value in UInt8(0)..<128 where containsUncached(Unicode.Scalar(value)) {
      if value < 64 { ascii.0 |= 1 << UInt64(value) } else { ascii.1 |= 1 << UInt64(value - 64) }
    }
  }

  func contains(_ scalar: Unicode.Scalar) -> Bool {
    let value = scalar.value
    if value < 64 { return ascii.0 >> UInt64(value) & 1 != 0 }
    if value < 128 { return ascii.1 >> UInt64(value - 64) & 1 != 0 }
    return containsUncached(scalar)
  }

  private func containsUncached(_ scalar: Unicode.Scalar) -> Bool {
    var isMember = hasMember(scalar)
    if ignoresCase && !isMember {
      isMember = Self.otherCases(of: scalar).contains(where: hasMember)
    }
    return isMember != isNegated
  }

  private func hasMember(_ scalar: Unicode.Scalar) -> Bool {
    members.contains { member in
      switch member {
      case .range(let range): range.contains(scalar.value)
      case .categories(let categories): scalar.matches(categories)
      case .whitespace: scalar.properties.isWhitespace
      case .word: scalar.isRegexWord
      case .set(let set): set.contains(scalar)
      }
    }
  }

  /// The scalars that simple case folding makes equal to `scalar`: for U+017F `S` and `s`.
  private static func otherCases(of scalar: Unicode.Scalar) -> [Unicode.Scalar] {
    let upper = scalar.properties.uppercaseMapping.unicodeScalars
    let lower = scalar.properties.lowercaseMapping.unicodeScalars
    var cases: [Unicode.Scalar] = []
    if upper.count == 1, let first = upper.first {
      cases.append(first)
      let back = first.properties.lowercaseMapping.unicodeScalars
      if back.count == 1 { cases += back }
    }
    if lower.count == 1 { cases += lower }
    return cases
  }
}
