import OTTensor

/// A block of weights with a step for each row, to be rounded again and again: for measuring.
package struct RoundedBlock {
  private let weights: [Float]
  private let columnCount: Int
  private let steps: [StepChoice]
  private let scheme: QuantizationScheme

  /// A block of weights, row-major.
  ///
  /// - Precondition: rows are whole, `bits` is 2 … 8.
  package init(_ weights: [Float], columnCount: Int, bits: Int) {
    guard let scheme = QuantizationScheme(bits: bits, isSymmetric: true, granularity: .perChannel) else {
      preconditionFailure("2 to 8 bits")
    }
    self.weights = weights
    self.columnCount = columnCount
    self.scheme = scheme
    steps = stride(from: 0, to: weights.count, by: columnCount).map { start in
      let row = weights[start..<start + columnCount]
      guard let step = StepChoice(minimum: row.min() ?? 0, maximum: row.max() ?? 0, scheme: scheme) else {
        preconditionFailure("weights are finite")
      }
      return step
    }
  }

  /// The quantized values that a rounding gives.
  @discardableResult
  package func round(_ rounding: some WeightRounding) -> [UInt8] {
    var weights = weights
    var error = ErrorStatistics()
    return [UInt8](unsafeUninitializedCapacity: weights.count) { values, count in
      weights.withUnsafeMutableBufferPointer { weights in
        rounding.round(
          WeightBlock(
            firstRow: 0, rowCount: steps.count, columnCount: columnCount, weights: weights, steps: steps,
            groupSize: columnCount, scheme: scheme, kernels: .current), into: values, addingErrorTo: &error)
      }
      count = weights.count
    }
  }
}
