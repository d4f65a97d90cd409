import OTFoundation

/// Float32 values of a sequence, one row per token: `[rowCount, channelCount]`.
public struct Matrix: Sendable, Hashable {
  /// Rows: tokens of the sequence.
  public let rowCount: Int
  /// Values in a row.
  public let channelCount: Int
  /// All values, row-major.
  public let values: [Float]

  /// A matrix of `values`, row-major.
  ///
  /// - Precondition: there are `rowCount · channelCount` values.
  public init(rowCount: Int, channelCount: Int, values: [Float]) {
    precondition(values.count == rowCount * channelCount)
    self.rowCount = rowCount
    self.channelCount = channelCount
    self.values = values
  }

  /// The distributions that an output of scores is, one a row: of `span_logits`, whose rows are tokens, the starts of
  /// answers and their ends.
  package func distributions(of output: String) -> Matrix {
    guard output == "span_logits" else { return self }
    let transposed = (0..<channelCount).flatMap { channel in (0..<rowCount).map { values[$0 * channelCount + channel] }
    }
    return Matrix(rowCount: channelCount, channelCount: rowCount, values: transposed)
  }

  /// The values of one row.
  public subscript(row: Int) -> ArraySlice<Float> {
    values[row * channelCount..<(row + 1) * channelCount]
  }
}
