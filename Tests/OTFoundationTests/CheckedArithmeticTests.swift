import OTFoundation
import Testing
import _OTTestSupport

@Suite struct CheckedArithmeticTests {
  /// Numbers near all that matters, and random ones of every size.
  private static func numbers(_ random: inout SeededGenerator) -> [Int] {
    let edges = [0, 1, 2, 3, Int.max, Int.max - 1, Int.max / 2, Int.max / 2 + 1, 1 << 31, 1 << 32, (1 << 32) - 1]
    let others = (0..<40).map { _ in
      Int.random(in: 0...Int.max, using: &random) >> Int.random(in: 0...62, using: &random)
    }
    return edges + others + edges.map { -$0 } + [Int.min, Int.min + 1]
  }

  @Test func sumsAndProductsAreThoseOfTwiceTheWidth() {
    var random = SeededGenerator()
    let numbers = Self.numbers(&random)
    for a in numbers {
      for b in numbers {
        // In halves: what is carried out of the upper one does not fit.
        let low = UInt(truncatingIfNeeded: a).addingReportingOverflow(UInt(truncatingIfNeeded: b))
        let high = (a < 0 ? -1 : 0) + (b < 0 ? -1 : 0) + (low.overflow ? 1 : 0)
        let sum = Int(truncatingIfNeeded: low.partialValue)
        #expect(a.addingChecked(b) == (high == (sum < 0 ? -1 : 0) ? sum : nil), "\(a) + \(b), seed \(random.seed)")
        let product = a.multipliedFullWidth(by: b)
        let value = Int(truncatingIfNeeded: product.low)
        #expect(
          a.multipliedChecked(by: b) == (product.high == (value < 0 ? -1 : 0) ? value : nil),
          "\(a) · \(b), seed \(random.seed)")
      }
    }
  }

  @Test func roundingUpFindsTheLeastMultiple() {
    for unit in [1, 2, 3, 7, 16, 64] {
      for number in -100...200 {
        let expected = (number...).first { $0 % unit == 0 }
        #expect(number.roundedUp(toMultipleOf: unit) == expected, "\(number) to multiples of \(unit)")
      }
    }
    // At the end of the range, where the sum of both would not fit: 2^63 − 1 is a multiple of 7.
    #expect((Int.max - 15).roundedUp(toMultipleOf: 16) == Int.max - 15)
    #expect((Int.max - 18).roundedUp(toMultipleOf: 16) == Int.max - 15)
    #expect((Int.max - 6).roundedUp(toMultipleOf: 7) == Int.max && Int.max.roundedUp(toMultipleOf: 7) == Int.max)
  }
}
