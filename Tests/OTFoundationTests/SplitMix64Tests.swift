import OTFoundation
import Testing
import _OTTestSupport

@Suite struct SplitMix64Tests {
  @Test func numbersAreThePublishedOnes() {
    // The first outputs of Vigna's splitmix64.c for the seed 1234567.
    var generator = SplitMix64(seed: 1_234_567)
    #expect(
      (0..<3).map { _ in generator.next() } == [
        6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423,
      ])
  }

  /// The upper 53 bits, as the same generator gives them.
  @Test func unitsAreMultiplesOfTheirStep() {
    var units = SplitMix64(seed: 5)
    var numbers = SplitMix64(seed: 5)
    for _ in 0..<1000 {
      let unit = units.nextUnit()
      #expect(unit >= 0 && unit < 1)
      #expect(unit * 9_007_199_254_740_992 == Double(numbers.next() / 2048))
    }
  }

  @Test(arguments: [1, 2, 7, 1000]) func boundedNumbersReachAllOfTheirRange(bound: Int) {
    var generator = SplitMix64(seed: 11)
    var seen = Set<Int>()
    for _ in 0..<20 * bound { seen.insert(generator.next(below: bound)) }
    #expect(seen == Set(0..<bound))
  }
}
