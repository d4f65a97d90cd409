import OTKernels
import OTTensor

/// Weights whose outputs are the columns of what is stored, as GPTQ and AWQ have them.
///
/// w[out, in] = (q − z)·s, with zero point and scale of the input's group and the output; each operation is
/// rounded once to float32.
struct ColumnCodes: RowDecoder {
  /// How integers lie in words of 32 bits.
  enum Codes: Sendable {
    /// A stream along the inputs in each column of weights, along the outputs in each row of zero points.
    case stream(bits: Int)
    /// Eight outputs of 4 bits to a word, from the lowest bits on the 1st, 3rd, 5th, 7th, 2nd, 4th, 6th and 8th.
    case interleaved
  }

  let codes: Codes
  let weights: TensorView
  /// Nil: all are `zeroOffset`.
  let zeros: TensorView?
  /// Added to what is stored.
  let zeroOffset: Int
  /// `[groups, out]`.
  let scales: TensorView
  /// The group of each input.
  let groups: [Int32]
  /// `[out, in]`.
  let shape: Shape

  func decode(_ rows: Range<Int>, into target: UnsafeMutableRawBufferPointer) {
    guard !rows.isEmpty else { return }
    let target = target.bindMemory(to: Float.self)
    let (columnCount, count) = (shape.rowElementCount, rows.count)
    let (scale, zero) = (scales(of: rows), zeros(of: rows))
    weights.withRowBytes(0..<weights.shape.rowCount) { bytes in
      let wordCount = weights.shape.rowElementCount
      for column in 0..<columnCount {
        let group = Int(groups[column]) * count
        for row in 0..<count {
          let output = rows.lowerBound + row
          let code =
            switch codes {
            case .stream(let bits):
              PackedIntegers.value(at: column, bits: bits) { PackedIntegers.word(bytes, $0 * wordCount + output) }
            case .interleaved: ColumnCodes.interleaved(bytes, column * wordCount, output)
            }
          target[row * columnCount + column] = (Float(code) - zero[group + row]) * scale[group + row]
        }
      }
    }
  }

  func release(_ rows: Range<Int>) {
    // Every block of rows touches all pages.
    guard rows.upperBound == shape.rowCount else { return }
    weights.release(0..<weights.shape.rowCount)
    scales.release(0..<scales.shape.rowCount)
  }

  func storedByteCount(of rows: Range<Int>) -> Int {
    (weights.storedByteCount + (zeros?.storedByteCount ?? 0) + scales.storedByteCount) * rows.count
      / max(shape.rowCount, 1)
  }

  /// The output's integer in the words of one input.
  private static func interleaved(_ bytes: UnsafeRawBufferPointer, _ firstWord: Int, _ output: Int) -> Int {
    let place = output % 8 / 2 + output % 2 * 4
    return Int(PackedIntegers.word(bytes, firstWord + output / 8) >> UInt32(4 * place) & 15)
  }

  /// `[group, row]`.
  private func scales(of rows: Range<Int>) -> [Float] {
    let size = scales.elementType.bitWidth / 8
    return scales.withRowBytes(0..<scales.shape.rowCount) { bytes in
      var values = [Float](repeating: 0, count: scales.shape.rowCount * rows.count)
      values.withUnsafeMutableBufferPointer { values in
        for group in 0..<scales.shape.rowCount {
          let start = (group * shape.rowCount + rows.lowerBound) * size
          Kernels.current.convert(
            UnsafeRawBufferPointer(rebasing: bytes[start..<start + rows.count * size]), from: scales.elementType,
            to: UnsafeMutableBufferPointer(rebasing: values[group * rows.count..<(group + 1) * rows.count]))
        }
      }
      return values
    }
  }

  /// `[group, row]`.
  private func zeros(of rows: Range<Int>) -> [Float] {
    guard let zeros else {
      return [Float](repeating: Float(zeroOffset), count: scales.shape.rowCount * rows.count)
    }
    return zeros.withRowBytes(0..<zeros.shape.rowCount) { bytes in
      let wordCount = zeros.shape.rowElementCount
      return (0..<zeros.shape.rowCount).flatMap { group in
        rows.map { row in
          let stored =
            switch codes {
            case .stream(let bits):
              PackedIntegers.value(at: row, bits: bits) { PackedIntegers.word(bytes, group * wordCount + $0) }
            case .interleaved: ColumnCodes.interleaved(bytes, group * wordCount, row)
            }
          return Float(stored + zeroOffset)
        }
      }
    }
  }
}
