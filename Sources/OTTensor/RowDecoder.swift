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

  /// Bytes of the file that `rows` are made of, about.
  func storedByteCount(of rows: Range<Int>) -> Int

  /// The decoder of what one row of the first dimension holds, where it need not decode all of that; nil: it must.
  func within(row: Int) -> (any RowDecoder)?
}

extension RowDecoder {
  /// None.
  package func within(row: Int) -> (any RowDecoder)? { nil }
}

/// Tensors of one shape, one behind the other.
package struct StackedRows: RowDecoder {
  private let parts: [any RowDecoder]
  /// Rows of a part.
  private let rowCount: Int
  /// Bytes of a part.
  private let byteCount: Int

  /// A stack of `parts`, each of `rowCount` rows and of `byteCount` bytes.
  package init(_ parts: [any RowDecoder], rowCount: Int, byteCount: Int) {
    (self.parts, self.rowCount, self.byteCount) = (parts, rowCount, byteCount)
  }

  /// Writes whole parts.
  package func decode(_ rows: Range<Int>, into target: UnsafeMutableRawBufferPointer) {
    for (index, part) in rows.enumerated() {
      let bytes = target[index * byteCount..<(index + 1) * byteCount]
      parts[part].decode(0..<rowCount, into: UnsafeMutableRawBufferPointer(rebasing: bytes))
    }
  }

  /// Lets the system forget the pages of whole parts.
  package func release(_ rows: Range<Int>) { for part in rows { parts[part].release(0..<rowCount) } }

  /// Those of whole parts.
  package func storedByteCount(of rows: Range<Int>) -> Int {
    rows.reduce(0) { $0 + parts[$1].storedByteCount(of: 0..<rowCount) }
  }

  /// A part.
  package func within(row: Int) -> (any RowDecoder)? { parts[row] }
}

/// Rows of another decoder's tensor, from `first` on.
struct FollowingRows: RowDecoder {
  let base: any RowDecoder
  let first: Int

  func decode(_ rows: Range<Int>, into target: UnsafeMutableRawBufferPointer) {
    base.decode(rows.lowerBound + first..<rows.upperBound + first, into: target)
  }

  func release(_ rows: Range<Int>) { base.release(rows.lowerBound + first..<rows.upperBound + first) }

  func storedByteCount(of rows: Range<Int>) -> Int {
    base.storedByteCount(of: rows.lowerBound + first..<rows.upperBound + first)
  }
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

  func storedByteCount(of rows: Range<Int>) -> Int {
    base.storedByteCount(of: row..<row + 1) * (rows.count * rowByteCount) / max(outerByteCount, 1)
  }
}

/// The columns of another decoder's matrix, as rows.
///
/// All rows of that matrix are decoded for every block: it is for the parameters that a graph
/// transposes, and those that it transposes twice come back as they were (`TensorView.transposed`).
package struct TransposedRows: RowDecoder {
  let base: any RowDecoder
  /// Rows of `base`.
  let rowCount: Int
  /// Columns of `base`.
  let columnCount: Int
  let elementByteCount: Int

  /// The columns of a matrix of so many rows and columns.
  package init(base: any RowDecoder, rowCount: Int, columnCount: Int, elementByteCount: Int) {
    (self.base, self.rowCount, self.columnCount) = (base, rowCount, columnCount)
    self.elementByteCount = elementByteCount
  }

  /// Decodes all of the matrix for some columns.
  package func decode(_ rows: Range<Int>, into target: UnsafeMutableRawBufferPointer) {
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

  /// Lets go of the matrix with its last column.
  package func release(_ rows: Range<Int>) {
    if rows.upperBound == columnCount { base.release(0..<rowCount) }
  }

  /// The columns' share of the matrix.
  package func storedByteCount(of rows: Range<Int>) -> Int {
    base.storedByteCount(of: 0..<rowCount) * rows.count / max(columnCount, 1)
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

  func storedByteCount(of rows: Range<Int>) -> Int { base.storedByteCount(of: rows) }
}

/// The rows of other decoders' tensors, one below the other.
struct JoinedRows: RowDecoder {
  let parts: [any RowDecoder]
  /// Rows of each.
  let rowCount: Int

  func decode(_ rows: Range<Int>, into target: UnsafeMutableRawBufferPointer) {
    let rowByteCount = target.count / max(rows.count, 1)
    each(rows) { part, range, place in
      let bytes = target[place * rowByteCount..<(place + range.count) * rowByteCount]
      part.decode(range, into: UnsafeMutableRawBufferPointer(rebasing: bytes))
    }
  }

  func release(_ rows: Range<Int>) { each(rows) { part, range, _ in part.release(range) } }

  func storedByteCount(of rows: Range<Int>) -> Int {
    var count = 0
    each(rows) { part, range, _ in count += part.storedByteCount(of: range) }
    return count
  }

  private func each(_ rows: Range<Int>, _ body: (any RowDecoder, Range<Int>, Int) -> Void) {
    var row = rows.lowerBound
    while row < rows.upperBound {
      let (part, first) = row.quotientAndRemainder(dividingBy: rowCount)
      let end = min(first + rows.upperBound - row, rowCount)
      body(parts[part], first..<end, row - rows.lowerBound)
      row += end - first
    }
  }
}
