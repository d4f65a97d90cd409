import OTFoundation

/// Integers of 2 to 8 bits in little-endian words of 32 bits, the lowest bits first; one may lie in two words.
enum PackedIntegers {
  /// Words that `count` integers take.
  static func wordCount(_ count: Int, bits: Int) -> Int? {
    count.multipliedChecked(by: bits).flatMap { $0.addingChecked(31) }.map { $0 / 32 }
  }

  /// The integer at `index` of a stream whose word `w` is `word(w)`.
  @inline(__always)
  static func value(at index: Int, bits: Int, word: (Int) -> UInt32) -> Int {
    let bit = index &* bits
    let (first, shift) = (bit >> 5, bit & 31)
    var value = word(first) >> UInt32(shift)
    if shift + bits > 32 { value |= word(first + 1) << UInt32(32 - shift) }
    return Int(value & ((1 << UInt32(bits)) - 1))
  }

  /// The word at `index` of `bytes`.
  @inline(__always)
  static func word(_ bytes: UnsafeRawBufferPointer, _ index: Int) -> UInt32 {
    UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: index &* 4, as: UInt32.self))
  }
}
