import OTKernels
import OTTensor

/// A row of a weight whose steps are chosen, ready to be rounded.
package struct WeightRow {
  /// Index of the row.
  package let row: Int
  /// Transformed weights; a rounding may change them as it goes.
  package let weights: UnsafeMutableBufferPointer<Float>
  /// A step for each group of `groupSize` weights, in order.
  package let steps: [StepChoice]
  /// Weights that share a step; the last group may have fewer.
  package let groupSize: Int
  /// The scheme whose values are chosen.
  package let scheme: QuantizationScheme
  /// Kernels that round.
  package let kernels: Kernels
}

/// A rule that makes weights quantized values.
///
/// Rows are independent of each other: they are rounded in any order, on several threads.
package protocol WeightRounding: Sendable {
  /// The name that files record.
  var kind: RoundingKind { get }

  /// Rounds a row.
  ///
  /// - Parameters:
  ///   - values: one quantized value for each weight, to be filled.
  ///   - error: gains the error of the row, against the weights as they were given.
  func round(
    _ row: WeightRow, into values: UnsafeMutableBufferPointer<UInt8>, addingErrorTo error: inout ErrorStatistics)
}
