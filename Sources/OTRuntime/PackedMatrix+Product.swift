import OTKernels
import OTTensor

extension PackedMatrix {
  /// Row tiles that a thread multiplies by at a time: 64 output channels.
  private static let blockTileCount = 4

  /// `scale ⊙ (Σ u·x − zeroPoint·Σ x) + b`, `[tokens, rows]`.
  ///
  /// Sums over the columns that share a scale are exact, in int32 (at most
  /// 65,536 columns at a time). What follows is float32, one rounding per
  /// operation: the sum times its scale, the sum of these in the order of the
  /// columns, times the token's scale where there is one, plus the bias.
  ///
  /// - Precondition: `x` has as many channels as this has columns, `bias` as
  ///   many entries as this has rows.
  func product(
    _ x: QuantizedMatrix, bias: [Float]?, threadCount: Int, kernels: Kernels
  ) throws -> Matrix {
    precondition(x.channelCount == layout.columnCount)
    precondition(bias.map { $0.count == layout.rowCount } ?? true)
    let sums = columnSums(x, kernels: kernels)
    let blockCount =
      (layout.rowTileCount + PackedMatrix.blockTileCount - 1) / PackedMatrix.blockTileCount
    return try .written(rowCount: x.rowCount, channelCount: layout.rowCount) { buffer in
      nonisolated(unsafe) let target = buffer
      _ = try mapBlocks(blockCount, threadCount: threadCount) { block in
        let first = block * PackedMatrix.blockTileCount
        let tiles = first..<min(first + PackedMatrix.blockTileCount, layout.rowTileCount)
        multiply(x, sums: sums, rowTiles: tiles, bias: bias, kernels: kernels, into: target)
      }
    }
  }

  /// Σ x over each run of columns, `[run, token]`.
  private func columnSums(_ x: QuantizedMatrix, kernels: Kernels) -> [Int32] {
    x.codes.withUnsafeBufferPointer { codes in
      runs.flatMap { run in
        (0..<x.rowCount).map { token in
          let start = token * x.paddedChannelCount
          let range = start + run.columns.lowerBound..<start + run.columns.upperBound
          return kernels.sum(UnsafeBufferPointer(rebasing: codes[range]))
        }
      }
    }
  }

  private func multiply(
    _ x: QuantizedMatrix, sums: [Int32], rowTiles: Range<Int>, bias: [Float]?, kernels: Kernels,
    into target: UnsafeMutableBufferPointer<Float>
  ) {
    let width = rowTiles.count * 16
    let rows = rowTiles.lowerBound * 16..<min(rowTiles.upperBound * 16, layout.rowCount)
    let products = UnsafeMutableBufferPointer<Int32>.allocate(capacity: x.rowCount * width)
    let scratch = UnsafeMutableBufferPointer<UInt8>.allocate(
      capacity: Kernels.productScratchByteCount)
    defer {
      products.deallocate()
      scratch.deallocate()
    }
    for (index, run) in runs.enumerated() {
      // Columns end at a multiple of 16, or where padding begins.
      let end = run.columns.upperBound.roundedUp(toMultipleOf: 16)
      withPackedCodes { packed in
        x.codes.withUnsafeBufferPointer { codes in
          kernels.multiply(
            packed, layout: layout, bits: bits, rowTiles: rowTiles,
            columns: run.columns.lowerBound..<end, activations: codes, rowCount: x.rowCount,
            into: products, resultStride: width, scratch: scratch)
        }
      }
      scaled(
        products, stride: width, rows: rows, run: run, isFirst: index == 0,
        sums: sums[index * x.rowCount..<(index + 1) * x.rowCount], into: target)
    }
    finish(x, rows: rows, bias: bias, target)
  }

  /// Sets `target`, or adds to it, `scale · (product − zeroPoint · sum)`.
  private func scaled(
    _ products: UnsafeMutableBufferPointer<Int32>, stride: Int, rows: Range<Int>, run: ColumnRun,
    isFirst: Bool, sums: ArraySlice<Int32>, into target: UnsafeMutableBufferPointer<Float>
  ) {
    let firstStep = run.group * layout.rowCount + rows.lowerBound
    scales.withUnsafeBufferPointer { scales in
      zeroPoints.withUnsafeBufferPointer { zeroPoints in
        for (token, sum) in sums.enumerated() {
          let to = token * layout.rowCount + rows.lowerBound
          let from = token * stride
          for row in 0..<rows.count {
            // The exact difference is within 65,536 · 255 · 128 < 2^31, so
            // wrapping arithmetic gives it.
            let exact = products[from + row] &- zeroPoints[firstStep + row] &* sum
            let value = scales[firstStep + row] * Float(exact)
            target[to + row] = isFirst ? value : target[to + row] + value
          }
        }
      }
    }
  }

  /// Multiplies by the tokens' scales and adds the bias; a matrix without
  /// columns gives the bias.
  private func finish(
    _ x: QuantizedMatrix, rows: Range<Int>, bias: [Float]?,
    _ target: UnsafeMutableBufferPointer<Float>
  ) {
    for token in 0..<x.rowCount {
      let to = token * layout.rowCount
      let values = UnsafeMutableBufferPointer(
        rebasing: target[to + rows.lowerBound..<to + rows.upperBound])
      if runs.isEmpty { values.update(repeating: 0) }
      if let scale = x.tokenScales?[token] {
        for index in values.indices { values[index] *= scale }
      }
      bias?.withUnsafeBufferPointer { bias in
        for index in values.indices { values[index] += bias[rows.lowerBound + index] }
      }
    }
  }
}
