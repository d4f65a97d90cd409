import OTFoundation

/// Random numbers from a seed that a failing test can print.
package struct SeededGenerator: RandomNumberGenerator {
  /// The seed that makes the same numbers again.
  package let seed: UInt64
  private var generator: SplitMix64

  package init(seed: UInt64 = UInt64.random(in: .min ... .max)) {
    self.seed = seed
    generator = SplitMix64(seed: seed)
  }

  package mutating func next() -> UInt64 { generator.next() }
}
