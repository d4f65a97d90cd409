import OTGraph
import OTKernels
import OTTensor

/// A site's value as integers, one row per token.
struct QuantizedMatrix: Sendable {
  let rowCount: Int
  /// Codes, `[rowCount, paddedChannelCount]`; padding is 0.
  let codes: [Int8]
  let channelCount: Int
  /// Real value = scale · code, one per token; nil: the codes stand for
  /// themselves, since the steps are part of the weights.
  let tokenScales: [Float]?

  /// Channels padded as the columns of `TileLayout` are.
  var paddedChannelCount: Int { QuantizedMatrix.padded(channelCount) }

  /// The integers of `matrix`, rounded to nearest, ties to even.
  ///
  /// With q = 2^(bits−1) − 1: static values are rounded and clamped to
  /// −q−1 … q (NaN becomes −q−1); dynamic ones are divided by max|x|/q of
  /// their token first. Nil for `.float`.
  init?(
    _ matrix: Matrix, _ quantization: ActivationQuantization, threadCount: Int, kernels: Kernels
  ) throws {
    let bits: Int
    let isDynamic: Bool
    switch quantization {
    case .float: return nil
    case .static(let count): (bits, isDynamic) = (count, false)
    case .dynamic(let count): (bits, isDynamic) = (count, true)
    }
    let (rowCount, width) = (matrix.rowCount, matrix.channelCount)
    let paddedWidth = QuantizedMatrix.padded(width)
    var scales: [Float] = []
    codes = try [Int8](unsafeUninitializedCapacity: rowCount * paddedWidth) { buffer, count in
      nonisolated(unsafe) let target = buffer
      let rowsPerBlock = max(1, (1 << 15) / max(1, width))
      let blockCount = (rowCount + rowsPerBlock - 1) / rowsPerBlock
      scales = try mapBlocks(blockCount, threadCount: threadCount) { block in
        let rows = block * rowsPerBlock..<min(rowCount, (block + 1) * rowsPerBlock)
        return matrix.values.withUnsafeBufferPointer { values in
          rows.map { row -> Float in
            let from = UnsafeBufferPointer(rebasing: values[row * width..<(row + 1) * width])
            let to = UnsafeMutableBufferPointer(
              rebasing: target[row * paddedWidth..<(row + 1) * paddedWidth])
            if isDynamic {
              return kernels.quantizeActivationsDynamically(from, bits: bits, into: to)
            }
            kernels.quantizeActivations(from, scale: 1, bits: bits, into: to)
            return 1
          }
        }
      }.flatMap { $0 }
      count = rowCount * paddedWidth
    }
    self.rowCount = rowCount
    channelCount = width
    tokenScales = isDynamic ? scales : nil
  }

  private static func padded(_ count: Int) -> Int {
    TileLayout(rowCount: 1, columnCount: count).paddedColumnCount
  }
}
