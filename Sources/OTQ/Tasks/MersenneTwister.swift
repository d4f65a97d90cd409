/// The generator MT19937 (Matsumoto and Nishimura 1998), seeded and read as Python's `random` does: lm-eval's standard
/// errors of perplexities are drawn with it.
package struct MersenneTwister: Sendable {
  private static let count = 624
  private var state: [UInt32]
  private var next = MersenneTwister.count

  /// `random.seed(seed)`, of a number of 32 bits.
  package init(seed: UInt32) {
    let count = MersenneTwister.count
    var state = [UInt32](repeating: 0, count: count)
    state[0] = 19_650_218
    for index in 1..<count {
      state[index] = 1_812_433_253 &* (state[index - 1] ^ state[index - 1] >> 30) &+ UInt32(index)
    }
    // The key is one number, so that its index stays 0.
    var index = 1
    for _ in 0..<count {
      let mixed = (state[index - 1] ^ state[index - 1] >> 30) &* 1_664_525
      state[index] = (state[index] ^ mixed) &+ seed
      index += 1
      if index == count {
        state[0] = state[count - 1]
        index = 1
      }
    }
    for _ in 1..<count {
      let mixed = (state[index - 1] ^ state[index - 1] >> 30) &* 1_566_083_941
      state[index] = (state[index] ^ mixed) &- UInt32(index)
      index += 1
      if index == count {
        state[0] = state[count - 1]
        index = 1
      }
    }
    state[0] = 0x8000_0000
    self.state = state
  }

  private mutating func nextBits() -> UInt32 {
    if next == MersenneTwister.count { twist() }
    var bits = state[next]
    next += 1
    bits ^= bits >> 11
    bits ^= bits << 7 & 0x9D2C_5680
    bits ^= bits << 15 & 0xEFC6_0000
    return bits ^ bits >> 18
  }

  private mutating func twist() {
    let count = MersenneTwister.count
    for index in 0..<count {
      let bits = state[index] & 0x8000_0000 | state[(index + 1) % count] & 0x7FFF_FFFF
      state[index] = state[(index + 397) % count] ^ bits >> 1 ^ (bits & 1 == 0 ? 0 : 0x9908_B0DF)
    }
    next = 0
  }

  /// `random.random()`: 53 bits of 0 ..< 1.
  package mutating func nextDouble() -> Double {
    let (high, low) = (Double(nextBits() >> 5), Double(nextBits() >> 6))
    return (high * 67_108_864 + low) / 9_007_199_254_740_992
  }
}
