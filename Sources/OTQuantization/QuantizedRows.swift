import OTTensor

/// Some rows of a quantized weight, and what quantizing them gave.
///
/// The rows of all blocks, put one after another, are the whole weight.
package struct QuantizedRows: Sendable {
  /// The rows that it has.
  package private(set) var rows: Range<Int>
  /// Quantized values, one to a byte, `[row, column]`.
  package var values: [UInt8] = []
  /// Scales of the rows, `[row, group]`. Per tensor, the one scale is in the block that begins with
  /// row 0, and the others have none.
  package var scales: [Float] = []
  /// Zero points beside the scales; empty when the scheme is symmetric.
  package var zeroPoints: [UInt8] = []
  /// W·shift of the rows of the original weight, where the transform has a shift; with
  /// zero · Σ(W' − Ŵ') · s_out of the row where a code of the input stands for 0.
  package var shiftProduct: [Float]?
  /// The error of quantizing them.
  package var statistics = ErrorStatistics()
  /// The time of each phase.
  package var times = QuantizationTimes()

  /// Rows without anything yet.
  package init(rows: Range<Int>) { self.rows = rows }

  /// Puts the rows that follow behind these.
  ///
  /// - Precondition: they follow.
  mutating func append(_ next: QuantizedRows) {
    precondition(next.rows.lowerBound == rows.upperBound)
    rows = rows.lowerBound..<next.rows.upperBound
    values += next.values
    scales += next.scales
    zeroPoints += next.zeroPoints
    if let product = next.shiftProduct { shiftProduct = (shiftProduct ?? []) + product }
    statistics = statistics.merged(with: next.statistics)
    times += next.times
  }
}
