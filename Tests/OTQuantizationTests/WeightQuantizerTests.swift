import OTFoundation
import OTKernels
import OTModel
import OTQuantization
import OTTensor
import Testing
import _OTTestSupport

@Suite struct WeightQuantizerTests {
  static let granularities: [QuantizationScheme.Granularity] = [
    .perTensor, .perChannel, .perGroup(size: 16), .perGroup(size: 32),
  ]
  /// All bits, symmetric and not, at every granularity.
  static let schemes = granularities.flatMap { granularity in
    (2...8).flatMap { bits in
      [true, false].map {
        QuantizationScheme(bits: bits, isSymmetric: $0, granularity: granularity)!
      }
    }
  }

  /// The whole computation again in plain Swift, element by element.
  @Test(arguments: schemes) func everyCode(_ scheme: QuantizationScheme) throws {
    var generator = SeededGenerator()
    let (rowCount, columnCount) = (37, 75)
    var weights = randomWeights(rowCount * columnCount, using: &generator)
    for column in 0..<columnCount { weights[5 * columnCount + column] = 0 }
    let context: Comment = "seed \(generator.seed)"
    let transform = WeightTransform(
      columnScale: (0..<columnCount).map { _ in Float.random(in: 0.1...3, using: &generator) },
      rowScale: (0..<rowCount).map { _ in Float.random(in: 0.1...3, using: &generator) })
    let type = [ElementType.f16, .bf16, .f32, .f64].randomElement(using: &generator)!
    try withWeight(weights, shape: [rowCount, columnCount], type: type) { view in
      let quantizer = try WeightQuantizer(
        view: view, scheme: scheme, transform: transform, threadCount: 2)
      let block = try quantizer.quantizeAll()
      #expect(block.scales.count == scheme.scaleCount(rowCount: rowCount, columnCount: columnCount))
      #expect(block.zeroPoints.count == (scheme.isSymmetric ? 0 : block.scales.count))

      let matrix = (0..<rowCount).map { row in
        (0..<columnCount).map { column -> Float in
          let product = Float(weights[row * columnCount + column]) * transform.columnScale![column]
          return product / transform.rowScale![row]
        }
      }
      let groupSize = if case .perGroup(let size) = scheme.granularity { size } else { columnCount }
      var expected = [UInt8](repeating: 0, count: rowCount * columnCount)
      var (largestError, squaredError) = (Float(0), 0.0)
      for row in 0..<rowCount {
        for (group, start) in stride(from: 0, to: columnCount, by: groupSize).enumerated() {
          let columns = start..<min(start + groupSize, columnCount)
          let sharing =
            scheme.granularity == .perTensor ? matrix.flatMap { $0 } : Array(matrix[row][columns])
          let (scale, zeroPoint) = Self.step(sharing, scheme)
          let index =
            scheme.granularity == .perTensor
            ? 0 : row * scheme.groupCount(columnCount: columnCount) + group
          #expect(block.scales[index] == scale, context)
          if !scheme.isSymmetric { #expect(Int(block.zeroPoints[index]) == zeroPoint, context) }
          for column in columns {
            let weight = matrix[row][column]
            let steps = Int((weight / scale).rounded(.toNearestOrEven))
            let code = min(max(steps + zeroPoint, scheme.minimumCode), scheme.maximumCode)
            expected[row * columnCount + column] = UInt8(code)
            // The promise: no weight is further than half a step from its code.
            let restored = scale * Float(code - zeroPoint)
            let error = abs(weight - restored)
            #expect(error <= scale / 2 * 1.00001, context)
            largestError = max(largestError, error / scale)
            squaredError += Double(weight - restored) * Double(weight - restored)
          }
        }
      }
      #expect(block.values == expected, context)
      #expect(block.statistics.count == rowCount * columnCount)
      #expect(block.statistics.maximumErrorInSteps == largestError)
      #expect(abs(block.statistics.squaredError - squaredError) <= squaredError * 1e-12)
      #expect(block.shiftProduct == nil)
    }
  }

  /// Scale and zero point as the scheme defines them.
  private static func step(_ values: [Float], _ scheme: QuantizationScheme) -> (Float, Int) {
    if scheme.isSymmetric {
      let largest = values.map(abs).max() ?? 0
      let scale = largest == 0 ? 1 : largest / Float((1 << scheme.bits) / 2 - 1)
      return (scale, (1 << scheme.bits) / 2)
    }
    let (high, low) = (max(values.max() ?? 0, 0), min(values.min() ?? 0, 0))
    let scale = high == low ? 1 : (high - low) / Float((1 << scheme.bits) - 1)
    return (scale, Int((-low / scale).rounded(.toNearestOrEven)))
  }

  @Test(arguments: schemes.filter { $0.bits == 6 })
  func blocksAndThreadsAndInstructionSetsAgree(_ scheme: QuantizationScheme) throws {
    var generator = SeededGenerator()
    let (rowCount, columnCount) = (70, 133)
    let shift = (0..<columnCount).map { _ in Float.random(in: -1...1, using: &generator) }
    let transform = WeightTransform(columnScale: shift.map { $0 + 2 }, columnShift: shift)
    let weights = randomWeights(rowCount * columnCount, using: &generator)
    try withWeight(weights, shape: [rowCount, columnCount], type: .f16) { view in
      let whole = try WeightQuantizer(
        view: view, scheme: scheme, transform: transform, kernels: #require(Kernels(.scalar))
      ).quantizeAll()
      for set in InstructionSet.available {
        let quantizer = try WeightQuantizer(
          view: view, scheme: scheme, transform: transform, threadCount: 7,
          kernels: #require(Kernels(set)))
        let blocks = try mapBlocks(4, threadCount: 3) { block in
          try quantizer.quantize(rows: [0..<1, 1..<33, 33..<65, 65..<70][block])
        }
        #expect(blocks.flatMap(\.values) == whole.values)
        #expect(blocks.flatMap(\.scales) == whole.scales)
        #expect(blocks.flatMap(\.zeroPoints) == whole.zeroPoints)
        #expect(blocks.compactMap(\.shiftProduct).flatMap { $0 } == whole.shiftProduct)
        let merged = blocks.map(\.statistics).reduce(ErrorStatistics()) { $0.merged(with: $1) }
        #expect(merged.count == whole.statistics.count)
        #expect(merged.maximumErrorInSteps == whole.statistics.maximumErrorInSteps)
        #expect(abs(merged.sqnrDecibels - whole.statistics.sqnrDecibels) < 1e-9)
      }
      // The shift's product is of the weight before the transform.
      let product = try #require(whole.shiftProduct)
      #expect(product.count == rowCount)
      for row in 0..<rowCount {
        let exact = (0..<columnCount).reduce(0.0) {
          $0 + weights[row * columnCount + $1] * Double(shift[$1])
        }
        #expect(abs(Double(product[row]) - exact) < 1e-4, "seed \(generator.seed)")
      }
    }
  }

  @Test func halfTiesGoToEven() throws {
    // max|w| = 31 makes the step 1 at 6 bits.
    let weights = [31, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, -31]
    let scheme = try #require(
      QuantizationScheme(bits: 6, isSymmetric: true, granularity: .perChannel))
    try withWeight(weights, shape: [1, 8]) { view in
      let quantizer = try WeightQuantizer(view: view, scheme: scheme)
      let block = try quantizer.quantizeAll()
      let codes = block.values.map { Int($0) - 32 }
      #expect(codes == [31, 0, 2, 2, 0, -2, -2, -31])
      #expect(block.scales == [1] && block.statistics.maximumErrorInSteps == 0.5)
    }
  }

  @Test(arguments: schemes.filter { $0.bits == 8 }) func zeroAndEmptyWeights(
    _ scheme: QuantizationScheme
  ) throws {
    try withWeight([Double](repeating: -0.0, count: 18 * 40), shape: [18, 40]) { view in
      let quantizer = try WeightQuantizer(view: view, scheme: scheme)
      let block = try quantizer.quantizeAll()
      #expect(block.scales.allSatisfy { $0 == 1 } && block.zeroPoints.allSatisfy { $0 == 0 })
      #expect(block.values == [UInt8](repeating: scheme.isSymmetric ? 128 : 0, count: 18 * 40))
      #expect(block.statistics.sqnrDecibels == .infinity)
    }
    for shape in [[0, 40], [3, 0], [0, 0]] {
      try withWeight([], shape: shape) { view in
        let quantizer = try WeightQuantizer(view: view, scheme: scheme)
        let block = try quantizer.quantizeAll()
        #expect(block.values.isEmpty && block.statistics.count == 0)
        #expect(block.scales.count == scheme.scaleCount(rowCount: shape[0], columnCount: shape[1]))
      }
    }
  }

  /// A rounding sees whole rows with their steps, may spoil them, and is asked for every row once.
  @Test(arguments: granularities) func roundingsSeeWholeRows(_ granularity: QuantizationScheme.Granularity) throws {
    struct Recording: WeightRounding {
      let scale: Float?
      func round(
        _ block: WeightBlock, into values: UnsafeMutableBufferPointer<UInt8>,
        addingErrorTo error: inout ErrorStatistics
      ) {
        #expect(block.columnCount == 40 && block.weights.count == block.rowCount * 40)
        let groupCount = (40 + block.groupSize - 1) / block.groupSize
        #expect(block.steps.count == (scale == nil ? block.rowCount * groupCount : 1))
        if let scale { #expect(block.steps.allSatisfy { $0.scale == scale }) }
        for index in values.indices {
          values[index] = UInt8(block.firstRow + index / 40 + (block.weights[index] < 0 ? 100 : 0))
        }
        block.weights.update(repeating: .nan)
        error.count += block.weights.count
      }
    }
    var generator = SeededGenerator()
    let weights = randomWeights(35 * 40, using: &generator)
    let scheme = try #require(QuantizationScheme(bits: 8, isSymmetric: true, granularity: granularity))
    let largest = Float(weights.map(abs).max() ?? 0) / 127
    try withWeight(weights, shape: [35, 40]) { view in
      let rounding = Recording(scale: granularity == .perTensor ? largest : nil)
      let quantizer = try WeightQuantizer(TransformedRows(view: view), scheme: scheme, rounding: rounding)
      let result = try quantizer.quantize(rows: 0..<35)
      #expect(result.values == weights.indices.map { UInt8($0 / 40 + (weights[$0] < 0 ? 100 : 0)) })
      #expect(result.statistics.count == weights.count)
    }
  }

  @Test func transposedViews() throws {
    var generator = SeededGenerator()
    let weights = randomWeights(20 * 30, using: &generator)
    let transposed = (0..<30).flatMap { row in (0..<20).map { weights[$0 * 30 + row] } }
    let scheme = try #require(
      QuantizationScheme(bits: 6, isSymmetric: false, granularity: .perChannel))
    let expected = try withWeight(transposed, shape: [30, 20], type: .f16) {
      try WeightQuantizer(view: $0, scheme: scheme).quantizeAll()
    }
    try withWeight(weights, shape: [30, 20], strides: [1, 30], type: .f16) { view in
      let block = try WeightQuantizer(view: view, scheme: scheme).quantizeAll()
      #expect(block.values == expected.values && block.scales == expected.scales)
    }
  }

  @Test func subnormalWeightsTakeTheSmallestStep() throws {
    let scheme = try #require(
      QuantizationScheme(bits: 8, isSymmetric: false, granularity: .perChannel))
    try withWeight([1e-44, -1e-44, 0], shape: [1, 3]) { view in
      let block = try WeightQuantizer(view: view, scheme: scheme).quantizeAll()
      #expect(block.scales == [.leastNormalMagnitude] && block.zeroPoints == [0])
      #expect(block.values.allSatisfy { $0 == 0 })
    }
  }
}
