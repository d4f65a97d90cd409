import OTFoundation
import OTTensor

/// Weights whose rows are stored one after another, as codes with scales.
///
/// w = scale · (code − zero), or w = scale · code + offset; every operation is rounded once to float32.
struct ScaledRows: RowDecoder {
  /// How codes lie in the bytes of a row.
  enum Codes: Sendable {
    case int8
    case e4m3
    /// Two to a byte, the first in the low half.
    case e2m1
    /// A stream of integers in words of 32 bits, each less `offset`.
    case packed(bits: Int, offset: Int)
  }

  /// The constant of each block of columns.
  enum Constant: Sendable {
    case none
    /// Integers as the scales lie; I8.
    case zeroPoints(ScaleGrid)
    /// Unsigned integers of so many bits, packed along the rows: `[words, block columns]`, each less `offset`.
    case packedZeroPoints(TensorView, bits: Int, offset: Int)
    /// Floats as the scales lie, which are added.
    case offsets(ScaleGrid)
  }

  let codes: Codes
  /// The stored codes, one row of them for each row of the weight.
  let view: TensorView
  let columnCount: Int
  let scales: ScaleGrid
  var constant = Constant.none
  /// The block of each column, where columns are not in the order of their blocks.
  var blocks: [Int32]?

  func decode(_ rows: Range<Int>, into target: UnsafeMutableRawBufferPointer) {
    let target = target.bindMemory(to: Float.self)
    for row in rows {
      let start = (row - rows.lowerBound) * columnCount
      let values = UnsafeMutableBufferPointer(rebasing: target[start..<start + columnCount])
      view.withRowBytes(row..<row + 1) { read($0, into: values) }
      apply(row, to: values)
    }
  }

  func release(_ rows: Range<Int>) {
    view.release(rows)
    scales.release(rows)
  }

  func storedByteCount(of rows: Range<Int>) -> Int {
    let constants =
      switch constant {
      case .none: 0
      case .zeroPoints(let grid), .offsets(let grid): grid.storedByteCount(of: rows)
      case .packedZeroPoints(let zeros, _, _): zeros.storedByteCount * rows.count / max(view.shape.rowCount, 1)
      }
    return view.storedByteCount(of: rows) + scales.storedByteCount(of: rows) + constants
  }

  private func read(_ bytes: UnsafeRawBufferPointer, into values: UnsafeMutableBufferPointer<Float>) {
    switch codes {
    case .int8: for index in values.indices { values[index] = Float(Int8(bitPattern: bytes[index])) }
    case .e4m3:
      NarrowFloat.e4m3.withUnsafeBufferPointer { table in
        for index in values.indices { values[index] = table[Int(bytes[index])] }
      }
    case .e2m1:
      NarrowFloat.e2m1.withUnsafeBufferPointer { table in
        for index in values.indices {
          let byte = bytes[index / 2]
          values[index] = table[Int(index % 2 == 0 ? byte & 15 : byte >> 4)]
        }
      }
    case .packed(let bits, let offset):
      for index in values.indices {
        let code = PackedIntegers.value(at: index, bits: bits) { PackedIntegers.word(bytes, $0) }
        values[index] = Float(code - offset)
      }
    }
  }

  private func apply(_ row: Int, to values: UnsafeMutableBufferPointer<Float>) {
    let scale = scales.values(row: row)
    let (zero, offset) = constants(row, count: scale.count)
    func block(_ index: Int, _ columns: Range<Int>) {
      if let zero { for column in columns { values[column] -= zero[index] } }
      for column in columns { values[column] *= scale[index] }
      if let offset { for column in columns { values[column] += offset[index] } }
    }
    if let blocks {
      for column in values.indices { block(Int(blocks[column]), column..<column + 1) }
      return
    }
    for (index, start) in stride(from: 0, to: columnCount, by: scales.columnsPerScale).enumerated() {
      block(index, start..<min(start + scales.columnsPerScale, columnCount))
    }
  }

  private func constants(_ row: Int, count: Int) -> (zero: [Float]?, offset: [Float]?) {
    switch constant {
    case .none: return (nil, nil)
    case .zeroPoints(let grid):
      let stored = row / grid.rowsPerScale
      return (grid.view.withRowBytes(stored..<stored + 1) { $0.map { Float(Int8(bitPattern: $0)) } }, nil)
    case .packedZeroPoints(let view, let bits, let offset):
      let zero = view.withRowBytes(0..<view.shape.rowCount) { bytes in
        (0..<count).map { column in
          let value = PackedIntegers.value(at: row, bits: bits) { PackedIntegers.word(bytes, $0 * count + column) }
          return Float(value - offset)
        }
      }
      return (zero, nil)
    case .offsets(let grid): return (nil, grid.values(row: row))
    }
  }
}
