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

  /// The values of one row.
  public subscript(row: Int) -> ArraySlice<Float> {
    values[row * channelCount..<(row + 1) * channelCount]
  }
}
