import OTKernels
import OTTensor

/// Scales, each of them of a block of a weight's rows and columns.
///
/// Element types: F32, F16 and BF16; F8_E4M3; U8, which is an exponent of 2 with the bias 127 (E8M0).
struct ScaleGrid: Sendable {
  /// `[block rows, block columns]`.
  let view: TensorView
  /// Rows of the weight that share a scale.
  let rowsPerScale: Int
  /// Columns of the weight that share a scale.
  let columnsPerScale: Int
  /// Each scale is divided by it, in float32.
  var divisor: Float = 1

  /// Scales in a row of blocks.
  var columnCount: Int { view.shape.rowElementCount }

  /// The scales of a row of the weight, in the order of its blocks of columns.
  func values(row: Int) -> [Float] {
    var values = view.narrowFloats(rows: row / rowsPerScale..<row / rowsPerScale + 1)
    if divisor != 1 { for index in values.indices { values[index] /= divisor } }
    return values
  }

  /// Lets the system forget the pages of what belongs to `rows` of the weight.
  func release(_ rows: Range<Int>) { view.release(places(of: rows)) }

  /// Bytes of what belongs to `rows` of the weight.
  func storedByteCount(of rows: Range<Int>) -> Int { view.storedByteCount(of: places(of: rows)) }

  private func places(of rows: Range<Int>) -> Range<Int> {
    let (first, last) = (rows.lowerBound / rowsPerScale, (rows.upperBound + rowsPerScale - 1) / rowsPerScale)
    return first..<max(first, min(last, view.shape.rowCount))
  }
}

extension TensorView {
  /// Rows of floats, of E4M3 or of E8M0 as float32, row-major.
  ///
  /// - Precondition: the element type is F32, F16, BF16, F64, F8_E4M3, F8_E8M0 or U8.
  func narrowFloats(rows: Range<Int>) -> [Float] {
    withRowBytes(rows) { bytes in
      let count = rows.count * shape.rowElementCount
      return [Float](unsafeUninitializedCapacity: count) { buffer, initializedCount in
        let target = UnsafeMutableBufferPointer(rebasing: buffer[..<count])
        switch elementType {
        case .f8e4m3: for index in 0..<count { target[index] = NarrowFloat.e4m3[Int(bytes[index])] }
        case .u8, .f8e8m0: for index in 0..<count { target[index] = NarrowFloat.e8m0(bytes[index]) }
        default: Kernels.current.convert(bytes, from: elementType, to: target)
        }
        initializedCount = count
      }
    }
  }
}

/// Floats of 8 and 4 bits.
enum NarrowFloat {
  /// The values of E4M3 (OCP FP8, without infinities): 0x7F and 0xFF are NaN.
  static let e4m3: [Float] = (0..<256).map { byte in
    let (exponent, mantissa) = (byte >> 3 & 15, Float(byte & 7))
    if byte & 0x7F == 0x7F { return .nan }
    let magnitude =
      exponent == 0
      ? mantissa * 0x1p-9 : (1 + mantissa / 8) * Float(sign: .plus, exponent: exponent - 7, significand: 1)
    return byte & 0x80 == 0 ? magnitude : -magnitude
  }

  /// The values of E2M1 (OCP FP4): bit 3 is the sign.
  static let e2m1: [Float] = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6]

  /// 2^(byte − 127); 255 is NaN.
  static func e8m0(_ byte: UInt8) -> Float {
    if byte == 255 { return .nan }
    return byte == 0 ? 0x1p-127 : Float(bitPattern: UInt32(byte) << 23)
  }
}

extension QuantizedModule {
  /// The scales of a weight of `shape`: one, one for each row, for equal groups of each row's columns, or for
  /// blocks.
  ///
  /// - Parameter blocks: the sizes `[rows, columns]` that blocks may have; those at the edges are cut.
  /// - Throws: `Refusal` with rule `quantized-shape`.
  func scales(
    _ part: String, _ view: TensorView, of shape: Shape, blocks: [[Int]] = [], divisor: Float = 1
  ) throws -> ScaleGrid {
    let (rowCount, columnCount) = (shape.rowCount, shape.rowElementCount)
    func grid(_ rows: Int, _ columns: Int) -> ScaleGrid {
      ScaleGrid(view: view, rowsPerScale: rows, columnsPerScale: columns, divisor: divisor)
    }
    let dimensions = view.shape.dimensions
    if dimensions.allSatisfy({ $0 == 1 }) { return grid(rowCount, columnCount) }
    for block in blocks where block.count == 2 && block.allSatisfy({ $0 > 0 }) {
      let counts = [(rowCount - 1) / block[0] + 1, (columnCount - 1) / block[1] + 1]
      if dimensions == counts { return grid(block[0], block[1]) }
    }
    if dimensions == [rowCount] || dimensions == [rowCount, 1] { return grid(1, columnCount) }
    if dimensions.count == 2, dimensions[0] == rowCount, dimensions[1] > 0, columnCount % dimensions[1] == 0 {
      return grid(1, columnCount / dimensions[1])
    }
    throw refusal("quantized-shape", "is \(view.shape), which are no scales of a weight \(shape)", part)
  }
}
