/// Sebastiano Vigna's SplitMix64: the same numbers for the same seed everywhere.
///
/// One 64-bit word of state; every seed is as good as any other.
package struct SplitMix64: RandomNumberGenerator, Sendable {
  private var state: UInt64

  /// A generator that starts at `seed`.
  package init(seed: UInt64) { state = seed }

  /// The next of all 64-bit numbers.
  package mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// A number from 0 up to `bound`, exclusive: remainders, whose bias is below
  /// bound · 2^-64, because the standard library does not promise its own method.
  package mutating func next(below bound: Int) -> Int { Int(next() % UInt64(bound)) }

  /// A number in 0 ..< 1, a multiple of 2^-53: the upper 53 bits of `next()`.
  package mutating func nextUnit() -> Double { Double(next() >> 11) * 0x1p-53 }
}
