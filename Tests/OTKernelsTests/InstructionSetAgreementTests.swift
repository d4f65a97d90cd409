import OTKernels
import OTTensor
import Testing
import _OTTestSupport

/// Every instruction set gives what the scalar kernels give, bit for bit.
@Suite struct InstructionSetAgreementTests {
  static let sets = InstructionSet.available
  static let counts = Array(0...70) + [255, 256, 1000]

  @Test(arguments: sets) func floatRows(_ set: InstructionSet) throws {
    let kernels = try #require(Kernels(set))
    var generator = SeededGenerator()
    for count in Self.counts {
      for nonFinite in [false, true] {
        let scale = Float.random(in: 1e-3...2, using: &generator)
        let x = HardRows.row(count: count, scale: scale, nonFinite: nonFinite, using: &generator)
        let y = HardRows.row(count: count, scale: 1, using: &generator)
        let context: Comment = "seed \(generator.seed), count \(count)"
        for (columnScale, rowScale) in [(y, nil), (nil, 3), (y, 0.7), (nil, nil)]
          as [([Float]?, Float?)]
        {
          let actual = kernels.transform(x, columnScale: columnScale, rowScale: rowScale)
          let expected = Kernels.scalar.transform(x, columnScale: columnScale, rowScale: rowScale)
          #expect(Self.agree(actual, expected), context)
        }
        #expect(Self.agree([kernels.dot(x, y)], [Kernels.scalar.dot(x, y)]), context)
        let range = kernels.range(x)
        let expectedRange = Kernels.scalar.range(x)
        #expect(
          [range.minimum, range.maximum].bitPatterns
            == [expectedRange.minimum, expectedRange.maximum].bitPatterns, context)
        #expect(range.firstNonFinite == expectedRange.firstNonFinite, context)
      }
    }
  }

  @Test(arguments: sets) func conversions(_ set: InstructionSet) throws {
    let kernels = try #require(Kernels(set))
    var generator = SeededGenerator()
    for count in Self.counts {
      let context: Comment = "seed \(generator.seed), count \(count)"
      let bytes = (0..<count * 8).map { _ in UInt8.random(in: 0...255, using: &generator) }
      for type in [ElementType.f16, .bf16, .f32, .f64] {
        let actual = kernels.convert(bytes, from: type)
        #expect(
          actual.bitPatterns == Kernels.scalar.convert(bytes, from: type).bitPatterns, context)
      }
      let values =
        HardRows.row(count: count, scale: 1, nonFinite: true, using: &generator)
        + (0..<count).map { _ in Float(bitPattern: UInt32.random(in: 0 ... .max, using: &generator))
        }
      for type in [ElementType.f16, .bf16, .f32, .f64] {
        #expect(
          kernels.convert(values, to: type) == Kernels.scalar.convert(values, to: type), context)
      }
    }
  }

  @Test(arguments: sets) func quantizing(_ set: InstructionSet) throws {
    let kernels = try #require(Kernels(set))
    var generator = SeededGenerator()
    for count in Self.counts {
      let bits = Int.random(in: 2...8, using: &generator)
      let highest = 1 << bits - 1
      let lowest = Int.random(in: 0...1, using: &generator)
      let zeroPoint = Int.random(in: lowest...highest, using: &generator)
      let scale = Float.random(in: 1e-3...2, using: &generator)
      let row = HardRows.row(count: count, scale: scale, using: &generator)
      let context: Comment = "seed \(generator.seed), count \(count), bits \(bits)"
      let actual = kernels.quantize(
        row, scale: scale, zeroPoint: zeroPoint, codes: lowest...highest)
      let expected = Kernels.scalar.quantize(
        row, scale: scale, zeroPoint: zeroPoint, codes: lowest...highest)
      #expect(actual.codes == expected.codes, context)
      #expect(
        actual.error.squaredError.bitPattern == expected.error.squaredError.bitPattern, context)
      #expect(actual.error.squares.bitPattern == expected.error.squares.bitPattern, context)
      #expect(actual.error.maximum.bitPattern == expected.error.maximum.bitPattern, context)
      let restored = kernels.dequantize(actual.codes, scale: scale, zeroPoint: zeroPoint)
      let expectedRestored = Kernels.scalar.dequantize(
        actual.codes, scale: scale, zeroPoint: zeroPoint)
      #expect(restored.bitPatterns == expectedRestored.bitPatterns, context)

      let hard = HardRows.row(count: count, scale: scale, nonFinite: true, using: &generator)
      for row in [row, hard] {
        let statically = kernels.quantizeStatically(row, bits: bits, paddedTo: count + 3)
        let expectedStatically = Kernels.scalar.quantizeStatically(row, bits: bits, paddedTo: count + 3)
        #expect(statically.codes == expectedStatically.codes, context)
        #expect(kernels.sum(statically.codes) == Kernels.scalar.sum(statically.codes), context)
        let dynamically = kernels.quantizeDynamically(row, bits: bits, paddedTo: count + 3)
        let expectedDynamically = Kernels.scalar.quantizeDynamically(row, bits: bits, paddedTo: count + 3)
        #expect(dynamically.codes == expectedDynamically.codes, context)
        #expect(Self.agree([dynamically.row.scale], [expectedDynamically.row.scale]), context)
      }
    }
  }

  @Test(arguments: sets) func tiles(_ set: InstructionSet) throws {
    let kernels = try #require(Kernels(set))
    var generator = SeededGenerator()
    for unitCount in 1...5 {
      let context: Comment = "seed \(generator.seed), \(unitCount) units of columns"
      let bytes = (0..<unitCount * 1024).map { _ in UInt8.random(in: 0...255, using: &generator) }
      #expect(kernels.interleave(bytes) == Kernels.scalar.interleave(bytes), context)
      #expect(kernels.deinterleave(bytes) == Kernels.scalar.deinterleave(bytes), context)
      for bits in [4, 6, 8] {
        let codes = bytes.map { $0 >> (8 - bits) }
        #expect(kernels.pack(codes, bits: bits) == Kernels.scalar.pack(codes, bits: bits), context)
        let packed = Array(bytes.prefix(unitCount * 128 * bits))
        #expect(
          kernels.unpack(packed, bits: bits) == Kernels.scalar.unpack(packed, bits: bits), context)
      }
      var codes = bytes.map { 1 + $0 % 63 }.prefix(unitCount * 1024 - unitCount)
      #expect(kernels.firstCode(in: Array(codes), outside: 1...63) == nil, context)
      let place = codes.indices.randomElement(using: &generator)!
      codes[place] = Bool.random(using: &generator) ? 0 : 64
      #expect(kernels.firstCode(in: Array(codes), outside: 1...63) == place, context)
    }
  }

  /// Equal bits, but for which NaN: IEEE 754 leaves that open in arithmetic.
  static func agree(_ actual: [Float], _ expected: [Float]) -> Bool {
    actual.count == expected.count
      && zip(actual, expected).allSatisfy { $0.isNaN ? $1.isNaN : $0.bitPattern == $1.bitPattern }
  }
}
