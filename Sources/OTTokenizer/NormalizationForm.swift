/// The normalization forms of Unicode Standard Annex 15, as of Unicode 9
/// (the version of the reference).
///
/// The mapping of single characters is a resource; ordering and composing are done here.
enum NormalizationForm {
  case nfc, nfd, nfkc, nfkd

  private var isCompatible: Bool { self == .nfkc || self == .nfkd }
  private var composes: Bool { self == .nfc || self == .nfkc }

  /// - Complexity: O(n log n), O(n) where marks do not pile up.
  func normalize(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
    // Below U+0300 everything is composed; below U+00A0 nothing decomposes.
    let inert: UInt32 = self == .nfc ? 0x300 : (isCompatible ? 0xA0 : 0xC0)
    if text.allSatisfy({ $0.value < inert }) { return text }
    let decomposed = Self.ordered(decompose(text))
    return composes ? Self.compose(decomposed) : decomposed.map(\.scalar)
  }

  private struct Mark {
    let scalar: Unicode.Scalar
    /// Canonical combining class; 0 for a character that starts anew.
    let order: UInt8

    init(_ scalar: Unicode.Scalar) {
      self.scalar = scalar
      let orderNow = scalar.value < 0x300 ? 0 : scalar.properties.canonicalCombiningClass.rawValue
      order = orderNow != 0 && scalar.isAssigned(inUnicode: 9) ? orderNow : 0
    }
  }

  private func decompose(_ text: [Unicode.Scalar]) -> [Mark] {
    let tables = NormalizationTables.shared
    let table = isCompatible ? tables.compatible : tables.canonical
    var result: [Mark] = []
    result.reserveCapacity(text.count)
    for scalar in text {
      if scalar.value < 0xA0 {
        result.append(Mark(scalar))
      } else if let syllable = Hangul.decompose(scalar) {
        result += syllable.map(Mark.init)
      } else if let mapping = table[scalar] {
        result += mapping.map(Mark.init)
      } else {
        result.append(Mark(scalar))
      }
    }
    return result
  }

  /// Sorts every run of marks by class, keeping the order of equals.
  private static func ordered(_ marks: [Mark]) -> [Mark] {
    var marks = marks
    var start = 0
    while start < marks.count {
      guard marks[start].order != 0 else {
        start += 1
        continue
      }
      let end = marks[start...].firstIndex { $0.order == 0 } ?? marks.count
      if end - start > 1 {
        let run = marks[start..<end].enumerated().sorted {
          ($0.element.order, $0.offset) < ($1.element.order, $1.offset)
        }
        marks.replaceSubrange(start..<end, with: run.map(\.element))
      }
      start = end
    }
    return marks
  }

  private static func compose(_ marks: [Mark]) -> [Unicode.Scalar] {
    let pairs = NormalizationTables.shared.pairs
    var result: [Unicode.Scalar] = []
    result.reserveCapacity(marks.count)
    var starter: Int?
    var lastOrder: UInt8 = 0
    for mark in marks {
      if let starter {
        // Nothing of the same class, and no other starter, may lie between.
        let isAdjacent = starter == result.count - 1
        if isAdjacent || lastOrder < mark.order,
          let whole = Hangul.compose(result[starter], mark.scalar)
            ?? pairs[NormalizationTables.key(result[starter], mark.scalar)]
        {
          result[starter] = whole
          continue
        }
      }
      if mark.order == 0 { starter = result.count }
      lastOrder = mark.order
      result.append(mark.scalar)
    }
    return result
  }
}

/// Korean syllables, composed by arithmetic (The Unicode Standard, 3.12).
private enum Hangul {
  static func decompose(_ scalar: Unicode.Scalar) -> [Unicode.Scalar]? {
    guard (0xAC00...0xD7A3).contains(scalar.value) else { return nil }
    let index = scalar.value - 0xAC00
    let trail = index % 28
    let parts = [0x1100 + index / 588, 0x1161 + index % 588 / 28] + (trail > 0 ? [0x11A7 + trail] : [])
    return parts.compactMap(Unicode.Scalar.init)
  }

  static func compose(_ first: Unicode.Scalar, _ second: Unicode.Scalar) -> Unicode.Scalar? {
    switch (first.value, second.value) {
    case (0x1100...0x1112, 0x1161...0x1175):
      Unicode.Scalar(0xAC00 + ((first.value - 0x1100) * 21 + second.value - 0x1161) * 28)
    case (0xAC00...0xD7A3, 0x11A8...0x11C2) where (first.value - 0xAC00) % 28 == 0:
      Unicode.Scalar(first.value + second.value - 0x11A7)
    default: nil
    }
  }
}

/// The mappings of single characters, read from the resource once.
private struct NormalizationTables {
  static let shared = NormalizationTables(PackageResources.decompositions_txt)

  private(set) var canonical: [Unicode.Scalar: [Unicode.Scalar]] = [:]
  private(set) var compatible: [Unicode.Scalar: [Unicode.Scalar]] = [:]
  /// The character that two make, by `key`.
  private(set) var pairs: [UInt64: Unicode.Scalar] = [:]

  private static let signs = Array("=!~".utf8)

  /// - Parameter text: a line for each character, as `scripts/make-decompositions` says.
  private init(_ text: [UInt8]) {
    // The parts as Unicode has them, which may decompose further.
    var steps: [Unicode.Scalar: (sign: UInt8, parts: [Unicode.Scalar])] = [:]
    for line in text.split(separator: UInt8(ascii: "\n")) {
      guard let mark = line.firstIndex(where: Self.signs.contains),
        let scalar = Self.scalar(line[..<mark]), scalar.isAssigned(inUnicode: 9)
      else { continue }
      let parts = line[(mark + 1)...].split(separator: UInt8(ascii: " ")).compactMap(Self.scalar)
      steps[scalar] = (line[mark], parts)
      if line[mark] == UInt8(ascii: "="), parts.count == 2 { pairs[Self.key(parts[0], parts[1])] = scalar }
    }
    func parts(_ scalar: Unicode.Scalar, isCompatible: Bool) -> [Unicode.Scalar] {
      guard let step = steps[scalar], isCompatible || step.sign != UInt8(ascii: "~") else { return [scalar] }
      return step.parts.flatMap { parts($0, isCompatible: isCompatible) }
    }
    for (scalar, step) in steps {
      compatible[scalar] = parts(scalar, isCompatible: true)
      if step.sign != UInt8(ascii: "~") { canonical[scalar] = parts(scalar, isCompatible: false) }
    }
  }

  private static func scalar(_ digits: ArraySlice<UInt8>) -> Unicode.Scalar? {
    UInt32(String(decoding: digits, as: UTF8.self), radix: 16).flatMap(Unicode.Scalar.init)
  }

  static func key(_ first: Unicode.Scalar, _ second: Unicode.Scalar) -> UInt64 {
    UInt64(first.value) << 32 | UInt64(second.value)
  }
}
