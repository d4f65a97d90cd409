import OTFoundation
import OTKernels
import Testing
import _OTTestSupport

/// Rows of floats to codes and digits.
@Suite struct CodeRowTests {
  /// Element by element in Swift.
  @Test(arguments: InstructionSet.available) func codesOfRows(_ set: InstructionSet) throws {
    let kernels = try #require(Kernels(set))
    var generator = SeededGenerator()
    for count in [0, 1, 15, 16, 17, 300] {
      for bits in 2...8 {
        for nonFinite in [false, true] {
          let row = HardRows.row(count: count, scale: 1, nonFinite: nonFinite, using: &generator)
          let context: Comment = "seed \(generator.seed), count \(count), bits \(bits)"
          let high = Float(1 << (bits - 1) - 1)
          func code(_ x: Float, from low: Float) -> Int8 {
            x.isNaN ? Int8(low) : Int8(min(max(x.rounded(.toNearestOrEven), low), high))
          }
          let statically = kernels.quantizeStatically(row, bits: bits, paddedTo: count + 3)
          let codes = row.map { code($0, from: -high - 1) }
          #expect(statically.codes == codes + [0, 0, 0], context)
          #expect(statically.row.scale == 1 && Int(statically.row.sum) == codes.reduce(0) { $0 + Int($1) }, context)

          let dynamically = kernels.quantizeDynamically(row, bits: bits, paddedTo: count + 3)
          let isFinite = row.allSatisfy(\.isFinite)
          let largest = row.map(\.magnitude).max() ?? 0
          let scale = largest == 0 ? 1 : max(largest / high, .leastNormalMagnitude)
          let steps = row.map { isFinite ? code($0 / scale, from: -high) : 0 }
          #expect(dynamically.codes == steps + [0, 0, 0], context)
          #expect(Int(dynamically.row.sum) == steps.reduce(0) { $0 + Int($1) }, context)
          #expect(isFinite ? dynamically.row.scale == scale : dynamically.row.scale.isNaN, context)
        }
      }
    }
  }

  @Test(arguments: [Float(1e-30), 1e-3, 1, 5e4, 1e35]) func digits(bound: Float) {
    var generator = SeededGenerator()
    for count in [1, 7, 16, 100] {
      var row = (0..<count).map { _ in Float.random(in: -bound...bound, using: &generator) }
      // Small ones beside large ones, and the largest of either sign.
      if count > 3 {
        row[1] = bound * 1e-6
        row[2] = Bool.random(using: &generator) ? bound : -bound
      }
      let stride = count + 5
      let (digits, sums, scale) = Kernels.scalar.splitDigits(row, stride: stride)
      let largest = row.map { Double(abs($0)) }.max() ?? 0
      for k in 0..<count {
        let digit = (0..<3).map { Double(digits[$0 * stride + k]) }
        let restored = Double(scale) * (65536 * digit[0] + 256 * digit[1] + digit[2])
        // Half a step, which is 2^-24 of the largest and 0.4 % more.
        #expect(
          abs(restored - Double(row[k])) <= largest * 0x1p-24 * 1.005, "seed \(generator.seed)")
      }
      for digit in 0..<3 {
        let codes = digits[digit * stride..<(digit + 1) * stride]
        #expect(codes.dropFirst(count).allSatisfy { $0 == 0 })
        #expect(Int(sums[digit]) == codes.map { Int($0) }.reduce(0, +), "seed \(generator.seed)")
      }
    }
  }

  @Test func digitsOfExtremes() {
    let zeros = Kernels.scalar.splitDigits([0, -0.0, 0], stride: 3)
    #expect(zeros.digits == [Int8](repeating: 0, count: 9) && zeros.scale == 1)
    for bad in [Float.nan, .infinity, -.infinity] {
      let (digits, sums, scale) = Kernels.scalar.splitDigits([1, bad, 2], stride: 3)
      #expect(digits == [Int8](repeating: 0, count: 9) && sums == [0, 0, 0] && scale.isNaN)
    }
    // Subnormals are multiples of less than the least scale.
    let small = Kernels.scalar.splitDigits([Float.leastNonzeroMagnitude, -0x1p-120], stride: 2)
    #expect(small.scale == .leastNormalMagnitude && small.digits == [0, 0, 0, 0, 0, -64])
  }
}
