import OTFoundation
import OTKernels
import Testing
import _OTTestSupport

/// Every instruction set gives what the scalar kernels give for a model's values,
/// bit for bit; for attention see `AttentionTests`.
@Suite struct ModelKernelsAgreementTests {
  static let sets = InstructionSet.available
  static let counts = Array(0...35) + [63, 64, 255, 1000]

  @Test(arguments: sets) func rows(_ set: InstructionSet) throws {
    let kernels = try #require(Kernels(set))
    var generator = SeededGenerator()
    for count in Self.counts {
      for nonFinite in [false, true] {
        let x = HardRows.row(count: count, scale: 0.1, nonFinite: nonFinite, using: &generator)
        let y = HardRows.row(count: count, scale: 0.1, nonFinite: nonFinite, using: &generator)
        let mild = x.map { _ in Float.random(in: -12...12, using: &generator) }
        func expectAgreement(_ body: (Kernels) -> [Float], _ what: String) {
          #expect(
            InstructionSetAgreementTests.agree(body(kernels), body(.scalar)),
            "seed \(generator.seed), count \(count): \(what)")
        }
        for activation in Kernels.Activation.allCases {
          expectAgreement({ $0.activate(activation, x) }, "\(activation)")
          expectAgreement({ $0.activate(activation, mild) }, "\(activation)")
        }
        expectAgreement({ $0.add(x, y) }, "add")
        expectAgreement({ $0.multiply(x, y) }, "multiply")
        for (a, b) in [(nil, nil), (y, nil), (nil, mild), (mild, y)] as [([Float]?, [Float]?)] {
          expectAgreement({ $0.transform(x, shift: a, scale: b) }, "transform")
          for row in [x, mild] {
            expectAgreement(
              { $0.layerNormalize(row, epsilon: 1e-5, gamma: a, beta: b) }, "layer norm")
            expectAgreement({ $0.rmsNormalize(row, epsilon: 1e-6, gamma: a, beta: b) }, "rms norm")
          }
        }
        for headSize in [1, 2, 9, 64] {
          let row = Array(x.prefix(count / headSize * headSize))
          let half = Int.random(in: 0...headSize / 2, using: &generator)
          let angles = (0..<half).map { _ in Float.random(in: -1...1, using: &generator) }
          expectAgreement(
            { $0.rotate(row, headSize: headSize, cosines: angles, sines: angles.reversed()) },
            "rotate")
        }
      }
    }
  }

  @Test(arguments: sets) func codes(_ set: InstructionSet) throws {
    let kernels = try #require(Kernels(set))
    var generator = SeededGenerator()
    for count in Self.counts {
      for nonFinite in [false, true] {
        let x = HardRows.row(count: count, scale: 0.1, nonFinite: nonFinite, using: &generator)
        let bits = Int.random(in: 2...8, using: &generator)
        let context: Comment = "seed \(generator.seed), count \(count), bits \(bits)"
        let fixed = kernels.quantizeStatically(x, bits: bits, paddedTo: count + 1)
        let expectedFixed = Kernels.scalar.quantizeStatically(x, bits: bits, paddedTo: count + 1)
        #expect(fixed == expectedFixed, context)
        let dynamic = kernels.quantizeDynamically(x, bits: bits, paddedTo: count + 1)
        let expectedDynamic = Kernels.scalar.quantizeDynamically(x, bits: bits, paddedTo: count + 1)
        #expect(dynamic.codes == expectedDynamic.codes, context)
        #expect(dynamic.row.sum == expectedDynamic.row.sum, context)
        #expect(
          InstructionSetAgreementTests.agree(
            [dynamic.row.scale], [expectedDynamic.row.scale]), context)
        let asymmetric = kernels.quantizeAsymmetrically(x, bits: bits, paddedTo: count + 1)
        let expectedAsymmetric = Kernels.scalar.quantizeAsymmetrically(x, bits: bits, paddedTo: count + 1)
        #expect(asymmetric.codes == expectedAsymmetric.codes, context)
        #expect(asymmetric.row.sum == expectedAsymmetric.row.sum, context)
        #expect(asymmetric.row.zero == expectedAsymmetric.row.zero, context)
        #expect(
          InstructionSetAgreementTests.agree([asymmetric.row.scale], [expectedAsymmetric.row.scale]), context)
        let split = kernels.splitDigits(x, stride: count + 2)
        let expectedSplit = Kernels.scalar.splitDigits(x, stride: count + 2)
        #expect(split.digits == expectedSplit.digits && split.sums == expectedSplit.sums, context)
        #expect(
          InstructionSetAgreementTests.agree([split.scale], [expectedSplit.scale]), context)
      }
    }
  }

  @Test(arguments: sets) func epilogues(_ set: InstructionSet) throws {
    let kernels = try #require(Kernels(set))
    var generator = SeededGenerator()
    for round in 0..<200 {
      let epilogue = EpilogueCase(
        rowCount: Int.random(in: 1...4, using: &generator),
        channelCount: Int.random(in: 1...70, using: &generator), hasDigits: round % 2 == 0,
        using: &generator)
      #expect(
        epilogue.result(of: kernels).bitPatterns == epilogue.result(of: .scalar).bitPatterns,
        "seed \(generator.seed), round \(round)")
    }
  }
}
