import OTFoundation

/// SentencePiece's compiled table of characters and what they become (`precompiled_charsmap`).
///
/// Its bytes: the size of a trie in bytes (32 bits, little-endian), the trie, and texts that each end with a
/// zero byte. The trie is a double array as of Darts-clone: units of 32 bits; a unit's offset, exclusive-or a
/// byte of the key, is the place of the next unit; a leaf holds the place of a text. Nothing of it is trusted:
/// a place outside ends the search.
struct CharacterMap: Sendable {
  private let units: [UInt32]
  private let texts: [UInt8]

  /// Reads the member `precompiled_charsmap`, in Base64.
  init(_ section: TokenizerSection) throws {
    guard let bytes = Base64.decode(try section.string("precompiled_charsmap")), let map = CharacterMap(bytes)
    else { throw section.refusal("tokenizer-syntax", "its precompiled_charsmap is damaged") }
    self = map
  }

  /// Nil for bytes that are no table.
  init?(_ bytes: [UInt8]) {
    func word(_ place: Int) -> UInt32 {
      (0..<4).reduce(0) { $0 | UInt32(bytes[place + $1]) << UInt32(8 * $1) }
    }
    guard bytes.count >= 4 else { return nil }
    let trieByteCount = Int(word(0))
    guard trieByteCount % 4 == 0, trieByteCount > 0, trieByteCount <= bytes.count - 4 else { return nil }
    units = stride(from: 4, to: 4 + trieByteCount, by: 4).map(word)
    texts = Array(bytes[(4 + trieByteCount)...])
    guard String(validating: texts, as: UTF8.self) != nil else { return nil }
  }

  /// Looks up each character as a reader sees it where it is short, then each of its scalars.
  ///
  /// - Parameter keepsStart: made false where the first character becomes nothing.
  func normalize(_ text: [Unicode.Scalar], _ keepsStart: inout Bool) -> [Unicode.Scalar] {
    var result: [Unicode.Scalar] = []
    result.reserveCapacity(text.count)
    for character in String(String.UnicodeScalarView(text)) {
      let scalars = character.unicodeScalars
      // The reference gives up on longer ones.
      if character.utf8.count < 6, let found = find(Array(character.utf8)) {
        if found.isEmpty, result.isEmpty { keepsStart = false }
        result += found
        continue
      }
      for scalar in scalars {
        let found = find(Array(scalar.utf8)) ?? [scalar]
        if found.isEmpty, result.isEmpty { keepsStart = false }
        result += found
      }
    }
    return result
  }

  /// The text that stands for the shortest beginning of `key` that is in the table, as in the reference.
  private func find(_ key: [UInt8]) -> [Unicode.Scalar]? {
    var place = Self.offset(units[0])
    for byte in key {
      guard byte != 0 else { return nil }
      place ^= Int(byte)
      guard units.indices.contains(place), units[place] & 0x8000_00FF == UInt32(byte) else { return nil }
      let unit = units[place]
      place ^= Self.offset(unit)
      guard unit >> 8 & 1 == 1 else { continue }
      guard units.indices.contains(place) else { return nil }
      let start = Int(units[place] & 0x7FFF_FFFF)
      guard start <= texts.count else { return nil }
      return Array(String(decoding: texts[start...].prefix { $0 != 0 }, as: UTF8.self).unicodeScalars)
    }
    return nil
  }

  private static func offset(_ unit: UInt32) -> Int { Int(unit >> 10) << Int(unit >> 6 & 8) }
}
