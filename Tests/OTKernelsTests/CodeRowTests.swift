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

  /// Every value that is not clamped is within half a step; the range is used from end to end, and 0 is exact.
  @Test(arguments: InstructionSet.available) func asymmetricRows(_ set: InstructionSet) throws {
    let kernels = try #require(Kernels(set))
    var generator = SeededGenerator()
    for count in [1, 15, 16, 17, 300] {
      for bits in 2...8 {
        for (low, high) in [(Float(-1), Float(3)), (0.5, 2), (-7, -6.5), (-1e-3, 1e5), (-3e38, 3e38)] {
          var row = (0..<count).map { _ in Float.random(in: 0...1, using: &generator) * (high - low / 2 - low / 2) + low
          }
          if low == -3e38 { row = row.map { min(max($0, low), high) } }
          let (codes, result) = kernels.quantizeAsymmetrically(row, bits: bits, paddedTo: count + 3)
          let context: Comment = "seed \(generator.seed), count \(count), bits \(bits), \(low)...\(high)"
          let (least, greatest) = (Double(min(row.min() ?? 0, 0)), Double(max(row.max() ?? 0, 0)))
          let step = (greatest - least) / Double(1 << bits - 1)
          #expect(abs(Double(result.scale) - step) <= step * 1e-6, context)
          #expect(codes.suffix(3) == [0, 0, 0] && result.sum == codes.reduce(0) { $0 + Int32($1) }, context)
          let range = -(1 << (bits - 1))..<1 << (bits - 1)
          #expect(range.contains(Int(result.zero)) && codes.allSatisfy { range.contains(Int($0)) }, context)
          for (x, code) in zip(row, codes) {
            // The code of 0 is rounded, which moves both ends by half a step.
            let error = abs(Double(code) - Double(result.zero) - Double(x) / step)
            #expect(error <= 1.0001, "\(x) \(code) \(context)")
            if code > range.lowerBound && code < range.upperBound - 1 { #expect(error <= 0.5001, context) }
          }
          #expect(codes.prefix(count).max().map { Int($0) } ?? 0 >= range.upperBound - 2 || greatest == 0, context)
        }
      }
    }
    let ones = kernels.quantizeAsymmetrically([255, 0, 100], bits: 8, paddedTo: 3)
    #expect(ones.codes == [127, -128, -28] && ones.row.scale == 1 && ones.row.zero == -128 && ones.row.sum == -29)
    let zeros = kernels.quantizeAsymmetrically([0, -0.0], bits: 8, paddedTo: 2)
    #expect(zeros.row.scale == 1 && zeros.codes == [Int8(zeros.row.zero), Int8(zeros.row.zero)])
    for bad in [Float.nan, .infinity, -.infinity] {
      let (codes, row) = kernels.quantizeAsymmetrically([1, bad, 2], bits: 8, paddedTo: 3)
      #expect(codes == [0, 0, 0] && row.scale.isNaN && row.sum == 0 && row.zero == 0)
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
