extension TensorView {
  /// A matrix with rows and columns exchanged; nil for other ranks.
  package func transposed() -> TensorView? {
    guard shape.rank == 2, columns == nil, let shape = Shape(shape.dimensions.reversed()) else { return nil }
    if let decoder {
      let exchanged: any RowDecoder =
        (decoder as? TransposedRows)?.base
        ?? TransposedRows(
          base: decoder, rowCount: self.shape.rowCount, columnCount: self.shape.rowElementCount,
          elementByteCount: elementType.bitWidth / 8)
      return decoded(shape, by: exchanged)
    }
    return TensorView(
      name: name, elementType: elementType, shape: shape, strides: strides.reversed(), file: file,
      byteOffset: byteOffset, isBigEndian: isBigEndian)
  }

  /// Some rows of the first dimension; nil where it has not as many, or none.
  package func rows(_ rows: Range<Int>) -> TensorView? {
    guard shape.rank > 0, columns == nil, rows.lowerBound >= 0, rows.upperBound <= shape.rowCount,
      let part = Shape([rows.count] + shape.dimensions.dropFirst())
    else { return nil }
    if let decoder { return decoded(part, by: FollowingRows(base: decoder, first: rows.lowerBound)) }
    return TensorView(
      name: name, elementType: elementType, shape: part, strides: strides, file: file,
      byteOffset: byteOffset + rows.lowerBound * strides[0] * elementType.bitWidth / 8, isBigEndian: isBigEndian)
  }

  /// One index of the first dimension, without that dimension; nil where there is no such index.
  package func element(_ index: Int) -> TensorView? {
    guard shape.rank > 1, columns == nil, (0..<shape.rowCount).contains(index),
      let part = Shape(Array(shape.dimensions.dropFirst()))
    else { return nil }
    if let decoder {
      let size = elementType.bitWidth / 8
      return decoded(
        part,
        by: decoder.within(row: index)
          ?? RowsWithinRow(
            base: decoder, row: index, outerByteCount: part.elementCount * size,
            rowByteCount: part.rowElementCount * size))
    }
    return TensorView(
      name: name, elementType: elementType, shape: part, strides: Array(strides.dropFirst()), file: file,
      byteOffset: byteOffset + index * strides[0] * elementType.bitWidth / 8, isBigEndian: isBigEndian)
  }

  /// The matrices of a stack, one below the other; nil for other ranks, and where they lie apart.
  package func joiningRows() -> TensorView? {
    guard shape.rank == 3, columns == nil, let joined = shape.joiningRows else { return nil }
    if decoder != nil {
      let parts = (0..<shape.rowCount).compactMap { element($0)?.decoder }
      return decoded(joined, by: JoinedRows(parts: parts, rowCount: shape.dimensions[1]))
    }
    guard strides[0] == strides[1] * shape.dimensions[1] || shape.dimensions[0] == 1 else { return nil }
    return TensorView(
      name: name, elementType: elementType, shape: joined, strides: Array(strides.dropFirst()), file: file,
      byteOffset: byteOffset, isBigEndian: isBigEndian)
  }

  /// Some columns of a matrix; nil for other ranks, and where it does not have them.
  package func columns(_ choice: ChannelChoice) -> TensorView? {
    let count = shape.rowElementCount
    guard shape.rank == 2, columns == nil, shape.rowCount > 0, choice.fault(among: count) == nil,
      let part = Shape([shape.rowCount, choice.count(among: count)])
    else { return nil }
    if let decoder {
      return decoded(
        part,
        by: ChosenColumns(
          base: decoder, columns: choice.channels(among: count), columnCount: count,
          elementByteCount: elementType.bitWidth / 8))
    }
    return TensorView(
      name: name, elementType: elementType, shape: part, strides: strides, columns: choice.channels(among: count),
      file: file, byteOffset: byteOffset, isBigEndian: isBigEndian)
  }

  private func decoded(_ shape: Shape, by decoder: any RowDecoder) -> TensorView {
    TensorView(
      decoded: name, elementType: elementType, shape: shape, by: decoder, file: file, byteOffset: byteOffset)
  }
}
