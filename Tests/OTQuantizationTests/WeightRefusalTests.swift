import OTFoundation
import OTKernels
import OTModel
import OTQuantization
import OTTensor
import Testing
import _OTTestSupport

/// Weights that are refused, and what the refusal says.
@Suite struct WeightRefusalTests {
  static let schemes = [
    QuantizationScheme(bits: 6, isSymmetric: true, granularity: .perChannel)!,
    QuantizationScheme(bits: 6, isSymmetric: false, granularity: .perGroup(size: 16))!,
    QuantizationScheme(bits: 8, isSymmetric: false, granularity: .perTensor)!,
  ]

  private func refusal(
    _ view: TensorView, _ scheme: QuantizationScheme, _ transform: WeightTransform = .identity
  ) -> Refusal? {
    #expect(throws: Refusal.self) {
      _ = try WeightQuantizer(view: view, scheme: scheme, transform: transform, threadCount: 2)
        .quantizeAll()
    }
  }

  @Test(arguments: schemes, [Double.nan, .infinity, -.infinity])
  func notFinite(_ scheme: QuantizationScheme, _ value: Double) throws {
    for type in [ElementType.f16, .bf16, .f32, .f64] {
      var weights = [Double](repeating: 0.25, count: 20 * 40)
      weights[18 * 40 + 33] = value
      try withWeight(weights, shape: [20, 40], type: type) { view in
        let refusal = refusal(view, scheme)
        #expect(refusal?.rule == "weight-not-finite")
        #expect(refusal?.tensor == "layer.weight" && refusal?.file == view.file.path)
        #expect(refusal?.byteOffset == 3 + (18 * 40 + 33) * type.bitWidth / 8)
        #expect(refusal?.message.contains("[18, 33]") == true)
      }
    }
  }

  @Test(arguments: schemes) func overflowInTheTransform(_ scheme: QuantizationScheme) throws {
    var weights = [Double](repeating: 0.25, count: 20 * 40)
    weights[7 * 40 + 2] = 1000
    try withWeight(weights, shape: [20, 40]) { view in
      let columnScale = WeightTransform(columnScale: [Float](repeating: 1e36, count: 40))
      let refusals = [
        refusal(view, scheme, columnScale),
        refusal(view, scheme, WeightTransform(rowScale: [Float](repeating: 1e-36, count: 20))),
      ]
      for refusal in refusals {
        #expect(refusal?.rule == "weight-overflow")
        #expect(refusal?.message.contains("[7, 2]") == true)
        #expect(refusal?.byteOffset == 3 + (7 * 40 + 2) * 4)
      }
      let shift = WeightTransform(columnShift: [Float](repeating: 1e38, count: 40))
      #expect(refusal(view, scheme, shift)?.rule == "weight-overflow")
    }
    weights[7 * 40 + 2] = 1e300
    try withWeight(weights, shape: [20, 40], type: .f64) { view in
      #expect(refusal(view, scheme)?.rule == "weight-overflow")
    }
  }

  @Test(arguments: schemes.filter { !$0.isSymmetric }) func tooWideARange(
    _ scheme: QuantizationScheme
  ) throws {
    try withWeight([3e38, -3e38, 0, 0], shape: [1, 4]) { view in
      #expect(refusal(view, scheme)?.rule == "weight-range")
    }
  }

  /// Whatever is accepted can be restored: no scale × code is infinite.
  @Test(arguments: 2...8, [true, false]) func largestFloats(_ bits: Int, _ isSymmetric: Bool) throws {
    let scheme = try #require(
      QuantizationScheme(bits: bits, isSymmetric: isSymmetric, granularity: .perChannel))
    let largest = Double(Float.greatestFiniteMagnitude)
    for weights in [[largest, 0], [0, -largest], [largest / 2, -largest / 2]] {
      try withWeight(weights, shape: [1, 2]) { view in
        do {
          let block = try WeightQuantizer(view: view, scheme: scheme).quantizeAll()
          #expect(
            block.statistics.squaredError.isFinite
              && block.statistics.maximumErrorInSteps <= 0.50001)
        } catch let refusal as Refusal {
          #expect(refusal.rule == "weight-range")
        }
      }
    }
  }

  @Test func wrongTypesAndShapes() throws {
    let scheme = Self.schemes[0]
    try withWeight([1, 2, 3, 4], shape: [4]) { view in
      #expect(refusal(view, scheme)?.rule == "weight-not-matrix")
      #expect(
        refusal(view, scheme, WeightTransform(rowScale: [1, 1, 1, 1]))?.rule == "weight-not-matrix")
      let integers = TensorView(
        name: "i", elementType: .i32, shape: view.shape, file: view.file,
        byteOffset: view.byteOffset)
      #expect(refusal(integers, scheme)?.rule == "weight-not-float")
    }
    try withWeight([1, 2, 3, 4], shape: [2, 2]) { view in
      for transform in [
        WeightTransform(columnScale: [1]), WeightTransform(columnShift: [1, 2, 3]),
        WeightTransform(rowScale: []),
      ] {
        #expect(refusal(view, scheme, transform)?.rule == "transform-mismatch")
      }
    }
  }
}

@Suite struct TransformedRowsTests {
  @Test func anyRankWithoutTransform() throws {
    let values = (0..<24).map { Double($0) - 7.5 }
    for shape in [[24], [2, 12], [2, 3, 4], [1, 2, 3, 4]] {
      try withWeight(values, shape: shape, type: .bf16) { view in
        let rows = try TransformedRows(view: view)
        #expect(try rows.read(0..<shape[0]) == values.map { Float($0) })
        let last = try rows.read(shape[0] - 1..<shape[0])
        #expect(last == values.suffix(24 / shape[0]).map { Float($0) })
      }
    }
    try withWeight([2.5], shape: []) { view in
      let row = try TransformedRows(view: view).read(0..<1)
      #expect(row == [2.5])
    }
  }

  @Test func orderOfOperations() throws {
    let values: [Float] = [0.1, -0.7, 3.3, 1e-3, 5, 1.1]
    let (columnScale, rowScale): ([Float], [Float]) = ([0.3, 7.7, 1.9], [0.7, 1.3])
    try withWeight(values.map { Double($0) }, shape: [2, 3]) { view in
      let rows = try TransformedRows(
        view: view, transform: WeightTransform(columnScale: columnScale, rowScale: rowScale))
      var expected: [Float] = []
      for index in values.indices {
        let product = values[index] * columnScale[index % 3]
        expected.append(product / rowScale[index / 3])
      }
      #expect(try rows.read(0..<2) == expected)
      #expect(try rows.read(1..<2) == Array(expected[3...]))
    }
  }

  /// Infinities are the reader's business where nothing is quantized.
  @Test func notChecked() throws {
    try withWeight([.infinity, 1], shape: [2]) { view in
      let row = try TransformedRows(view: view).read(0..<2)
      #expect(row == [.infinity, 1])
    }
  }
}
