import OTFoundation
import OTKernels
import Testing
import _OTTestSupport

/// The scalar kernels against formulas in plain Swift.
@Suite struct ScalarKernelsTests {
  let kernels = Kernels.scalar

  #if !(os(macOS) && arch(x86_64))
    @Test func everyHalf() {
      let bytes = (0...UInt16.max).flatMap { [UInt8($0 & 255), UInt8($0 >> 8)] }
      let values = kernels.convert(bytes, from: .f16)
      let agrees = zip(0...UInt16.max, values).allSatisfy { bits, value in
        let expected = Float(Float16(bitPattern: bits))
        return expected.isNaN ? value.isNaN : value.bitPattern == expected.bitPattern
      }
      #expect(agrees)
      // Back again every half is itself, quiet NaN included.
      let isQuiet = zip(0...UInt16.max, kernels.convert(values, to: .f16).pairs).allSatisfy {
        $0 == $1 || Float16(bitPattern: $0).isNaN && $1 == $0 | 0x200
      }
      #expect(isQuiet)
    }

    @Test func roundingToHalf() {
      var generator = SeededGenerator()
      var values = HardRows.row(count: 2000, scale: 1, using: &generator)
      // Between every two neighbours: below the middle, the middle, above it.
      for bits in stride(from: UInt16(0), to: 0x7C00, by: 1) {
        let low = Float(Float16(bitPattern: bits))
        let high = bits == 0x7BFF ? 65536 : Float(Float16(bitPattern: bits + 1))
        let middle = (low + high) / 2
        values += [middle.nextDown, middle, -middle, middle.nextUp]
      }
      let halves = kernels.convert(values, to: .f16).pairs
      let isNearest = zip(values, halves).allSatisfy { Float16($0).bitPattern == $1 }
      #expect(isNearest, "seed \(generator.seed)")
    }
  #endif

  @Test(
    arguments: [
      (0x3F80_0000, 0x3F80), (0x3F80_7FFF, 0x3F80), (0x3F80_8000, 0x3F80), (0x3F80_8001, 0x3F81),
      (0x3F81_8000, 0x3F82), (0x7F7F_FFFF, 0x7F80), (0x8000_0000, 0x8000), (0x0000_8000, 0x0000),
      (0x0000_8001, 0x0001), (0x7F80_0000, 0x7F80), (0x7F80_0001, 0x7FC0), (0xFFC1_2345, 0xFFC1),
    ] as [(UInt32, UInt16)])
  func roundingToBrainFloat(_ single: UInt32, _ expected: UInt16) {
    #expect(kernels.convert([Float(bitPattern: single)], to: .bf16).pairs == [expected])
  }

  @Test func brainFloatsAndDoubles() {
    let halves: [UInt8] = [0x80, 0x3F, 0x00, 0xC0, 0x01, 0x00]
    #expect(kernels.convert(halves, from: .bf16) == [1, -2, Float(bitPattern: 0x1_0000)])
    let doubles: [Double] = [1 / 3, -1e300, 1e-46, 7e-46, 0x1.000001p0, 0x1.000003p0]
    let bytes = doubles.flatMap { value in
      (0..<8).map { UInt8(truncatingIfNeeded: value.bitPattern >> ($0 * 8)) }
    }
    #expect(kernels.convert(bytes, from: .f64) == doubles.map { Float($0) })
    #expect(kernels.convert([1.5], to: .f64) == [0, 0, 0, 0, 0, 0, 0xF8, 0x3F])
  }

  @Test(arguments: Array(0...70)) func dotProduct(_ count: Int) {
    var generator = SeededGenerator()
    let x = (0..<count).map { _ in Float.random(in: -2...2, using: &generator) }
    let y = (0..<count).map { _ in Float.random(in: -2...2, using: &generator) }
    let lanes = (0..<16).map { lane in
      stride(from: lane, to: count, by: 16).reduce(Float(0)) { sum, k in sum + x[k] * y[k] }
    }
    #expect(kernels.dot(x, y) == tree(lanes), "seed \(generator.seed)")
  }

  /// The fixed tree, from its definition: i is added to i + half.
  private func tree<Value: FloatingPoint>(_ lanes: [Value]) -> Value {
    if lanes.count == 1 { return lanes[0] }
    let half = lanes.count / 2
    return tree((0..<half).map { lanes[$0] + lanes[$0 + half] })
  }

  @Test func ranges() {
    #expect(kernels.range([]) == .init(minimum: 0, maximum: 0, firstNonFinite: nil))
    #expect(kernels.range([3, -2, 7]) == .init(minimum: -2, maximum: 7, firstNonFinite: nil))
    #expect(
      kernels.range([.nan, 3, .infinity, -1])
        == .init(minimum: -1, maximum: .infinity, firstNonFinite: 0))
    #expect(kernels.range([-0.0, -0.0]).maximum.sign == .plus)
  }

  @Test func transforming() {
    let row: [Float] = [0.1, -3, 1e38, 5]
    let columnScale: [Float] = [3, 7, 10, 0.1]
    let rowScale: Float = 0.3
    var expected: [Float] = []
    for (value, scale) in zip(row, columnScale) {
      let product = value * scale
      expected.append(product / rowScale)
    }
    #expect(expected[2] == .infinity)
    #expect(kernels.transform(row, columnScale: columnScale, rowScale: rowScale) == expected)
    #expect(kernels.transform(row, columnScale: nil, rowScale: 3) == row.map { $0 / 3 })
  }

  @Test func tiesGoToEven() {
    let row = (-6...6).map { Float($0) + 0.5 }
    let codes = kernels.quantize(row, scale: 1, zeroPoint: 8, codes: 0...15).codes
    // -5.5 → -6, -4.5 → -4, … 0.5 → 0, 1.5 → 2, … 6.5 → 6
    #expect(codes.map { Int($0) - 8 } == [-6, -4, -4, -2, -2, 0, 0, 2, 2, 4, 4, 6, 6])
    let activations = kernels.quantizeStatically(row, bits: 8, paddedTo: 13).codes
    #expect(activations == [-6, -4, -4, -2, -2, 0, 0, 2, 2, 4, 4, 6, 6])
  }

  @Test(arguments: 2...8) func quantizing(_ bits: Int) {
    var generator = SeededGenerator()
    let scale = Float.random(in: 1e-3...2, using: &generator)
    let zeroPoint = Int.random(in: 0..<1 << bits, using: &generator)
    let row = HardRows.row(count: 333, scale: scale, using: &generator)
    let expected = row.map { value -> UInt8 in
      let code = (value / scale).rounded(.toNearestOrEven) + Float(zeroPoint)
      return UInt8(min(max(code, 0), Float(1 << bits - 1)))
    }
    let (codes, error) = kernels.quantize(
      row, scale: scale, zeroPoint: zeroPoint, codes: 0...(1 << bits - 1))
    #expect(codes == expected, "seed \(generator.seed)")
    let restored = codes.map { scale * Float(Int($0) - zeroPoint) }
    #expect(kernels.dequantize(codes, scale: scale, zeroPoint: zeroPoint) == restored)
    let differences = zip(row, restored).map { $0 - $1 }
    #expect(error.maximum == differences.map(abs).max())
    let sums = [differences, row].map { values -> Double in
      var lanes = [Double](repeating: 0, count: 16)
      for (k, value) in values.enumerated() { lanes[k % 16] += Double(value) * Double(value) }
      return tree(lanes)
    }
    #expect([error.squaredError, error.squares] == sums, "seed \(generator.seed)")
  }

  @Test func activations() {
    let row: [Float] = [0, 1, -1, 300, -300, .infinity, -.infinity, .nan]
    #expect(
      kernels.quantizeStatically(row, bits: 8, paddedTo: 10).codes
        == [0, 1, -1, 127, -128, 127, -128, -128, 0, 0])
    #expect(
      kernels.quantizeStatically(row, bits: 6, paddedTo: 8).codes
        == [0, 1, -1, 31, -32, 31, -32, -32])
    let dynamic = kernels.quantizeDynamically([2, -127, 63.4], bits: 8, paddedTo: 3)
    #expect(dynamic.row.scale == 1 && dynamic.codes == [2, -127, 63])
    let sixBits = kernels.quantizeDynamically([1, -3.1, 0.26], bits: 6, paddedTo: 3)
    #expect(sixBits.row.scale == 3.1 / Float(31) && sixBits.codes == [10, -31, 3])
    let zeros = kernels.quantizeDynamically([0, -0.0], bits: 8, paddedTo: 2)
    #expect(zeros.row.scale == 1 && zeros.codes == [0, 0])
    let tiny = kernels.quantizeDynamically([.leastNonzeroMagnitude, 0], bits: 8, paddedTo: 2)
    #expect(tiny.row.scale == .leastNormalMagnitude && tiny.codes == [0, 0])
    for value in [Float.nan, .infinity] {
      let result = kernels.quantizeDynamically([1, value], bits: 8, paddedTo: 2)
      #expect(result.row.scale.isNaN && result.codes == [0, 0])
    }
    #expect(kernels.sum([1, -128, 127, -5]) == -5)
  }
}

extension [UInt8] {
  /// Little-endian 16-bit words.
  fileprivate var pairs: [UInt16] {
    stride(from: 0, to: count, by: 2).map { UInt16(self[$0]) | UInt16(self[$0 + 1]) << 8 }
  }
}
