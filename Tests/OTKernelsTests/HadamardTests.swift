import OTFoundation
import OTKernels
import Testing
import _OTTestSupport

@Suite struct HadamardTests {
  static let blockSizes = [16, 32, 64, 128, 256, 512]

  private static func hadamard(_ kernels: Kernels, _ x: [Float], _ blockSize: Int) -> [Float] {
    kernels.mapped(x) { kernels.hadamard($0, blockSize: blockSize, into: $1) }
  }

  /// The matrix itself, in float64: H₂ₙ is [[Hₙ, Hₙ], [Hₙ, −Hₙ]].
  private static func matrix(_ size: Int) -> [[Double]] {
    guard size > 1 else { return [[1]] }
    let half = matrix(size / 2)
    return half.map { $0 + $0 } + half.map { row in row + row.map { -$0 } }
  }

  @Test(arguments: blockSizes) func isTheMatrix(_ blockSize: Int) {
    var generator = SeededGenerator()
    let x = (0..<2 * blockSize).map { _ in Float.random(in: -3...3, using: &generator) }
    let y = Self.hadamard(.scalar, x, blockSize)
    for (row, signs) in Self.matrix(blockSize).enumerated() {
      for start in [0, blockSize] {
        let sum = zip(signs, x[start...]).reduce(0) { $0 + $1.0 * Double($1.1) }
        let exact = sum / Double(blockSize).squareRoot()
        #expect(abs(Double(y[start + row]) - exact) < 5e-6, "seed \(generator.seed), row \(row)")
      }
    }
  }

  @Test(arguments: blockSizes) func isItsOwnInverse(_ blockSize: Int) {
    var generator = SeededGenerator()
    let x = (0..<3 * blockSize).map { _ in Float.random(in: -3...3, using: &generator) }
    let back = Self.hadamard(.scalar, Self.hadamard(.scalar, x, blockSize), blockSize)
    for (a, b) in zip(x, back) { #expect(abs(a - b) < 5e-6, "seed \(generator.seed)") }
  }

  /// Small integers are exact, and √16, √64, √256 are.
  @Test(arguments: [16, 64, 256]) func isExactOnIntegers(_ blockSize: Int) {
    var generator = SeededGenerator()
    let x = (0..<blockSize).map { _ in Float(Int.random(in: -99...99, using: &generator)) }
    #expect(Self.hadamard(.scalar, Self.hadamard(.scalar, x, blockSize), blockSize) == x, "seed \(generator.seed)")
  }

  @Test(arguments: InstructionSet.available, blockSizes)
  func instructionSetsAgree(_ set: InstructionSet, _ blockSize: Int) throws {
    let kernels = try #require(Kernels(set))
    var generator = SeededGenerator()
    for blockCount in [0, 1, 3] {
      for nonFinite in [false, true] {
        let x = HardRows.row(count: blockCount * blockSize, scale: 0.1, nonFinite: nonFinite, using: &generator)
        let expected = Self.hadamard(.scalar, x, blockSize)
        let context: Comment = "seed \(generator.seed), \(blockCount) blocks"
        #expect(InstructionSetAgreementTests.agree(Self.hadamard(kernels, x, blockSize), expected), context)
        // Over the source.
        var inPlace = x
        inPlace.withUnsafeMutableBufferPointer {
          kernels.hadamard(UnsafeBufferPointer($0), blockSize: blockSize, into: $0)
        }
        #expect(InstructionSetAgreementTests.agree(inPlace, expected), context)
      }
    }
  }
}
