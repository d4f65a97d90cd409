import OTTensor

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

extension Matrix {
  /// Elements that one thread works on before it takes the next block.
  private static let blockElementCount = 1 << 15

  /// A matrix that `fill` writes in blocks of rows, on several threads.
  ///
  /// `fill` is given the block's rows and their memory, all of which it must
  /// write. Blocks do not depend on `threadCount`.
  static func filled(
    rowCount: Int, channelCount: Int, threadCount: Int,
    _ fill: @Sendable (Range<Int>, UnsafeMutableBufferPointer<Float>) throws -> Void
  ) throws -> Matrix {
    let rowsPerBlock = max(1, blockElementCount / max(1, channelCount))
    return try written(rowCount: rowCount, channelCount: channelCount) { buffer in
      nonisolated(unsafe) let target = buffer
      let blockCount = (rowCount + rowsPerBlock - 1) / rowsPerBlock
      _ = try mapBlocks(blockCount, threadCount: threadCount) { block in
        let rows = block * rowsPerBlock..<min(rowCount, (block + 1) * rowsPerBlock)
        let elements = rows.lowerBound * channelCount..<rows.upperBound * channelCount
        try fill(rows, UnsafeMutableBufferPointer(rebasing: target[elements]))
      }
    }
  }

  /// A matrix all of whose memory `write` fills.
  static func written(
    rowCount: Int, channelCount: Int, _ write: (UnsafeMutableBufferPointer<Float>) throws -> Void
  ) throws -> Matrix {
    let count = rowCount * channelCount
    let values = try [Float](unsafeUninitializedCapacity: count) { buffer, initializedCount in
      try write(UnsafeMutableBufferPointer(rebasing: buffer[..<count]))
      initializedCount = count
    }
    return Matrix(rowCount: rowCount, channelCount: channelCount, values: values)
  }
}
