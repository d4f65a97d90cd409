/// Makes the rows of a tensor whose elements a file holds in another form: as integers with scales, or
/// in another order.
///
/// It reads the mapped file each time that it is asked, and keeps nothing.
package protocol RowDecoder: Sendable {
  /// Writes rows of the first dimension to `target`, row-major and little-endian, as elements of the
  /// view's type.
  ///
  /// - Precondition: `rows` are rows of the tensor, and `target` has exactly the bytes of their elements.
  func decode(_ rows: Range<Int>, into target: UnsafeMutableRawBufferPointer)

  /// Lets the system forget the mapped pages of `rows`.
  func release(_ rows: Range<Int>)
}

/// Rows of another decoder's tensor, from `first` on.
struct FollowingRows: RowDecoder {
  let base: any RowDecoder
  let first: Int

  func decode(_ rows: Range<Int>, into target: UnsafeMutableRawBufferPointer) {
    base.decode(rows.lowerBound + first..<rows.upperBound + first, into: target)
  }

  func release(_ rows: Range<Int>) { base.release(rows.lowerBound + first..<rows.upperBound + first) }
}

/// Rows within one row of another decoder's tensor.
struct RowsWithinRow: RowDecoder {
  let base: any RowDecoder
  let row: Int
  /// Bytes of the row of `base`.
  let outerByteCount: Int
  /// Bytes of a row of this one.
  let rowByteCount: Int

  func decode(_ rows: Range<Int>, into target: UnsafeMutableRawBufferPointer) {
    withUnsafeTemporaryAllocation(byteCount: outerByteCount, alignment: 64) { outer in
      base.decode(row..<row + 1, into: outer)
      let part = outer[rows.lowerBound * rowByteCount..<rows.upperBound * rowByteCount]
      target.copyMemory(from: UnsafeRawBufferPointer(rebasing: part))
    }
  }

  func release(_ rows: Range<Int>) {}
}

/// The columns of another decoder's matrix, as rows.
///
/// All rows of that matrix are decoded for every block: it is for the parameters that a graph
/// transposes, and those that it transposes twice come back as they were (`TensorView.transposed`).
struct TransposedRows: RowDecoder {
  let base: any RowDecoder
  /// Rows of `base`.
  let rowCount: Int
  /// Columns of `base`.
  let columnCount: Int
  let elementByteCount: Int

  func decode(_ rows: Range<Int>, into target: UnsafeMutableRawBufferPointer) {
    let size = elementByteCount
    withUnsafeTemporaryAllocation(byteCount: columnCount * size, alignment: 64) { line in
      for row in 0..<rowCount {
        base.decode(row..<row + 1, into: line)
        for (index, column) in rows.enumerated() {
          let place = (index * rowCount + row) * size
          for byte in 0..<size { target[place + byte] = line[column * size + byte] }
        }
      }
    }
  }

  func release(_ rows: Range<Int>) {
    if rows.upperBound == columnCount { base.release(0..<rowCount) }
  }
}

/// Some columns of another decoder's matrix.
struct ChosenColumns: RowDecoder {
  let base: any RowDecoder
  let columns: [Int]
  /// Columns of `base`.
  let columnCount: Int
  let elementByteCount: Int

  func decode(_ rows: Range<Int>, into target: UnsafeMutableRawBufferPointer) {
    let size = elementByteCount
    withUnsafeTemporaryAllocation(byteCount: columnCount * size, alignment: 64) { line in
      var place = 0
      for row in rows {
        base.decode(row..<row + 1, into: line)
        for column in columns {
          for byte in 0..<size { target[place + byte] = line[column * size + byte] }
          place += size
        }
      }
    }
  }

  func release(_ rows: Range<Int>) { base.release(rows) }
}
