import OTFoundation

/// One tensor of a checkpoint: where its bytes are and how to walk them.
///
/// A view copies no data. Elements lie in `file` from `byteOffset`, at
/// `strides` (in elements, none negative); its maker has checked that every
/// element is inside the file. Where there is a `decoder`, they are made of
/// what lies there instead.
package struct TensorView: Sendable {
  /// Name in the checkpoint.
  package let name: String
  /// Type of the elements.
  package let elementType: ElementType
  /// Dimensions, outermost first.
  package let shape: Shape
  /// Element strides, one per dimension. Stride 0 repeats an element. Row-major where there is a decoder.
  package let strides: [Int]
  /// The columns that are taken of the matrix in the file; nil: all. `shape` has them alone.
  package let columns: [Int]?
  /// The file that holds the bytes.
  package let file: MappedFile
  /// Offset in the file of the element at index zero, or of what a decoder reads.
  package let byteOffset: Int
  /// True when multi-byte elements are stored most significant byte first.
  package let isBigEndian: Bool
  /// Makes the elements of what is in the file; nil where the file has them as they are.
  package let decoder: (any RowDecoder)?

  /// - Precondition: one stride per dimension, and all elements in the file.
  package init(
    name: String, elementType: ElementType, shape: Shape, strides: [Int]? = nil, columns: [Int]? = nil,
    file: MappedFile, byteOffset: Int, isBigEndian: Bool = false
  ) {
    let strides = strides ?? shape.rowMajorStrides
    precondition(strides.count == shape.rank)
    self.name = name
    self.elementType = elementType
    self.shape = shape
    self.strides = strides
    self.columns = columns
    self.file = file
    self.byteOffset = byteOffset
    self.isBigEndian = isBigEndian
    decoder = nil
  }

  /// A tensor whose elements `decoder` makes.
  ///
  /// - Parameters:
  ///   - file: the file that the decoder reads, for refusals.
  ///   - byteOffset: the place of what it reads.
  package init(
    decoded name: String, elementType: ElementType = .f32, shape: Shape, by decoder: any RowDecoder,
    file: MappedFile, byteOffset: Int
  ) {
    self.name = name
    self.elementType = elementType
    self.shape = shape
    strides = shape.rowMajorStrides
    columns = nil
    self.file = file
    self.byteOffset = byteOffset
    isBigEndian = false
    self.decoder = decoder
  }

  /// The same tensor under another name.
  package func renamed(_ name: String) -> TensorView { TensorView(self, name: name) }

  private init(_ view: TensorView, name: String) {
    self.name = name
    (elementType, shape, strides, columns) = (view.elementType, view.shape, view.strides, view.columns)
    (file, byteOffset, isBigEndian, decoder) = (view.file, view.byteOffset, view.isBigEndian, view.decoder)
  }

  /// Bytes of the tensor once it lies in row-major order.
  package var byteCount: Int { shape.elementCount * elementType.bitWidth / 8 }

  /// Bytes of the file that the tensor is made of, about: those of the codes and scales where a decoder makes it.
  package var storedByteCount: Int { storedByteCount(of: 0..<shape.rowCount) }

  /// The same of some rows.
  package func storedByteCount(of rows: Range<Int>) -> Int {
    decoder?.storedByteCount(of: rows) ?? rows.count * shape.rowElementCount * elementType.bitWidth / 8
  }

  /// True when the bytes in the file already are in row-major order (strides of
  /// dimensions of size 1 do not matter) and little-endian.
  package var isContiguous: Bool {
    if shape.elementCount == 0 { return true }
    if decoder != nil || columns != nil { return false }
    if isBigEndian && elementType.bitWidth > 8 { return false }
    return zip(zip(shape.dimensions, strides), shape.rowMajorStrides)
      .allSatisfy { $0.0 == 1 || $0.1 == $1 }
  }

  /// True when both views show the same elements of the same bytes.
  package func sharesElements(with other: TensorView) -> Bool {
    file.identity.isSameFile(as: other.file.identity) && byteOffset == other.byteOffset
      && shape == other.shape && strides == other.strides && columns == other.columns
      && elementType == other.elementType && shape.elementCount > 0 && decoder == nil && other.decoder == nil
  }

  /// Calls `body` with rows `rows` of the first dimension as row-major,
  /// little-endian bytes: the mapped file itself where that is possible, else
  /// a copy that lives for the call.
  ///
  /// - Precondition: `rows` lies within the first dimension (0..<1 for a scalar).
  package func withRowBytes<Result>(
    _ rows: Range<Int>, _ body: (UnsafeRawBufferPointer) throws -> Result
  ) rethrows -> Result {
    precondition(rows.lowerBound >= 0 && rows.upperBound <= shape.rowCount)
    let rowByteCount = shape.rowElementCount * elementType.bitWidth / 8
    if isContiguous {
      let start = byteOffset + rows.lowerBound * rowByteCount
      return try body(file.bytes(in: start..<start + rows.count * rowByteCount))
    }
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: rows.count * rowByteCount, alignment: 64)
    defer { copy.deallocate() }
    if let decoder { decoder.decode(rows, into: copy) } else { gather(rows, into: copy) }
    return try body(UnsafeRawBufferPointer(copy))
  }

  /// Lets the system forget the mapped pages of `rows`.
  package func release(_ rows: Range<Int>) {
    decoder?.release(rows)
    guard isContiguous else { return }
    let rowByteCount = shape.rowElementCount * elementType.bitWidth / 8
    let start = byteOffset + rows.lowerBound * rowByteCount
    file.release(start..<start + rows.count * rowByteCount)
  }

  private func gather(_ rows: Range<Int>, into copy: UnsafeMutableRawBufferPointer) {
    let size = elementType.bitWidth / 8
    if let columns { return gather(rows, columns, into: copy) }
    if shape.rank == 2, !isBigEndian {
      if size == 2 { return gatherMatrix(rows, of: UInt16.self, into: copy) }
      if size == 4 { return gatherMatrix(rows, of: UInt32.self, into: copy) }
    }
    let dimensions = Array(shape.dimensions.dropFirst())
    let innerStrides = Array(strides.dropFirst())
    let source = file.bytes
    var target = 0
    var index = [Int](repeating: 0, count: dimensions.count)
    for row in rows {
      var position = row * (strides.first ?? 0)
      for axis in index.indices { index[axis] = 0 }
      for _ in 0..<shape.rowElementCount {
        let from = byteOffset + position * size
        if isBigEndian {
          for byte in 0..<size { copy[target + byte] = source[from + size - 1 - byte] }
        } else {
          for byte in 0..<size { copy[target + byte] = source[from + byte] }
        }
        target += size
        // Count up like an odometer, the last dimension fastest.
        var axis = dimensions.count - 1
        while axis >= 0 {
          index[axis] += 1
          position += innerStrides[axis]
          if index[axis] < dimensions[axis] { break }
          position -= dimensions[axis] * innerStrides[axis]
          index[axis] = 0
          axis -= 1
        }
      }
    }
  }

  private func gather(_ rows: Range<Int>, _ columns: [Int], into copy: UnsafeMutableRawBufferPointer) {
    let size = elementType.bitWidth / 8
    let source = file.bytes
    var target = 0
    for row in rows {
      let start = byteOffset + row * strides[0] * size
      for column in columns {
        let from = start + column * strides[1] * size
        for byte in 0..<size { copy[target + byte] = source[from + (isBigEndian ? size - 1 - byte : byte)] }
        target += size
      }
    }
  }

  /// A transposed matrix, in squares small enough that the lines of both sides stay in the cache.
  private func gatherMatrix<Element: FixedWidthInteger>(
    _ rows: Range<Int>, of type: Element.Type, into copy: UnsafeMutableRawBufferPointer
  ) {
    let size = MemoryLayout<Element>.size
    let columnCount = shape.rowElementCount
    guard !rows.isEmpty, columnCount > 0, let base = file.bytes.baseAddress, let target = copy.baseAddress
    else { return }
    let source = base + byteOffset + rows.lowerBound * strides[0] * size
    let (rowStride, columnStride) = (strides[0] * size, strides[1] * size)
    let edge = 32
    for firstRow in stride(from: 0, to: rows.count, by: edge) {
      let lastRow = min(firstRow + edge, rows.count)
      for firstColumn in stride(from: 0, to: columnCount, by: edge) {
        let lastColumn = min(firstColumn + edge, columnCount)
        for row in firstRow..<lastRow {
          for column in firstColumn..<lastColumn {
            let value = source.loadUnaligned(fromByteOffset: row * rowStride + column * columnStride, as: type)
            target.storeBytes(of: value, toByteOffset: (row * columnCount + column) * size, as: type)
          }
        }
      }
    }
  }
}
