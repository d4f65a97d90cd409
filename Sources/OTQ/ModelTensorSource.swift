import OTContainer
import OTFoundation
import OTModel
import OTTensor

/// The place of a tensor's elements, read block by block, so that memory does not grow with the tensor.
package enum ModelTensorSource: Sendable {
  /// In an `.otq` file; no alias.
  case stored(Container, StoredTensor)
  /// In a checkpoint.
  case view(TensorView)

  /// The parts of a tensor that can be read as they are stored.
  package enum Part: Sendable {
    /// The elements, of their own type; quantized values a byte each.
    case values
    /// Float32.
    case scales
    /// A byte each.
    case zeroPoints
  }

  private var name: String {
    switch self {
    case .stored(_, let tensor): tensor.name
    case .view(let view): view.name
    }
  }

  private var path: String {
    switch self {
    case .stored(let container, _): container.file.path
    case .view(let view): view.file.path
    }
  }

  private var shape: Shape {
    switch self {
    case .stored(_, let tensor): tensor.shape
    case .view(let view): view.shape
    }
  }

  /// The scheme of a quantized tensor.
  package var scheme: QuantizationScheme? {
    if case .stored(_, let tensor) = self { tensor.scheme } else { nil }
  }

  /// The type of a tensor that is not quantized.
  private var elementType: ElementType? {
    switch self {
    case .view(let view): return view.elementType
    case .stored(_, let tensor):
      guard case .plain(let type) = tensor.content else { return nil }
      return type
    }
  }

  /// Scales of a quantized tensor.
  package var scaleCount: Int? {
    scheme?.scaleCount(rowCount: shape.rowCount, columnCount: shape.rowElementCount)
  }

  /// Elements of a row.
  package var rowElementCount: Int { shape.rowElementCount }

  private func refusal(_ rule: String, _ message: String) -> Refusal {
    Refusal(rule, message, file: path, tensor: name)
  }

  // MARK: Checks

  /// - Throws: ``Refusal`` with rule `tensor-part` for a tensor that is not quantized.
  package func checkQuantized() throws(Refusal) {
    guard scheme != nil else { throw refusal("tensor-part", "is not quantized, so that it has no codes and scales") }
  }

  /// - Throws: ``Refusal`` with rule `tensor-rows` for rows that the tensor does not have.
  package func checkRows(_ rows: Range<Int>) throws(Refusal) {
    guard rows.lowerBound >= 0, rows.upperBound <= shape.rowCount else {
      throw refusal(
        "tensor-rows", "rows \(rows.lowerBound) to \(rows.upperBound) are asked for, it has \(shape.rowCount)")
    }
  }

  /// Bytes of a part.
  ///
  /// - Throws: ``Refusal`` with rule `tensor-part` for a part that it does not have, `tensor-type` for elements whose
  ///   rows are no whole bytes.
  package func byteCount(of part: Part) throws(Refusal) -> Int {
    guard part == .values else {
      try checkQuantized()
      return (scaleCount ?? 0) * (part == .scales ? 4 : 1)
    }
    guard let type = elementType else { return shape.elementCount }
    guard shape.rowElementCount * type.bitWidth % 8 == 0 else {
      throw refusal("tensor-type", "rows of \(shape.rowElementCount) elements \(type.rawValue) are no whole bytes")
    }
    return shape.elementCount * type.bitWidth / 8
  }

  // MARK: Reading

  /// Rows of a block of about a megabyte, a multiple of those of a tile.
  private var blockRowCount: Int {
    max(1, (1 << 18) / max(rowElementCount, 1) / TileLayout.tileRowCount) * TileLayout.tileRowCount
  }

  /// Calls `body` with rows as float32, block after block.
  ///
  /// - Precondition: the rows are the tensor's.
  /// - Throws: `Refusal` with rule `tensor-type` for elements that are no floats, or `otq-…` for damaged data.
  package func forEachBlock(of rows: Range<Int>, _ body: (ArraySlice<Float>) throws -> Void) throws {
    guard scheme != nil || elementType?.isConvertibleFloat ?? false else {
      throw refusal("tensor-type", "its elements are not floats")
    }
    // Of rows without columns there may be 2^31.
    guard rowElementCount > 0, !rows.isEmpty else { return }
    var scales: [Float] = []
    var zeroPoints: [UInt8] = []
    if case .stored(let container, let tensor) = self, scheme != nil {
      (scales, zeroPoints) = (try container.scales(of: tensor), try container.zeroPoints(of: tensor))
    }
    // Blocks begin where tiles do.
    let step = blockRowCount
    var start = rows.lowerBound / step * step
    while start < rows.upperBound {
      let wanted = max(start, rows.lowerBound)..<min(start + step, rows.upperBound)
      start += step
      switch self {
      case .view(let view): try body(TransformedRows(view: view).values(rows: wanted)[...])
      case .stored(let container, let tensor) where scheme == nil:
        try body(container.floats(of: tensor, rows: wanted)[...])
      case .stored(let container, let tensor):
        let tiles = wanted.lowerBound / TileLayout.tileRowCount..<(wanted.upperBound - 1) / TileLayout.tileRowCount + 1
        let values = try container.dequantized(tensor, rowTiles: tiles, scales: scales, zeroPoints: zeroPoints)
        let from = (wanted.lowerBound - tiles.lowerBound * TileLayout.tileRowCount) * rowElementCount
        try body(values[from..<from + wanted.count * rowElementCount])
      }
    }
  }

  /// Calls `body` with the bytes of a part, block after block.
  ///
  /// - Throws: ``Refusal`` as `byteCount(of:)`, or with a rule `otq-…` for damaged data.
  package func forEachBlock(of part: Part, _ body: (UnsafeRawBufferPointer) -> Void) throws(Refusal) {
    guard try byteCount(of: part) > 0 else { return }
    try refusing {
      switch (self, part) {
      case (.stored(let container, let tensor), .scales):
        try container.scales(of: tensor).withUnsafeBytes(body)
      case (.stored(let container, let tensor), .zeroPoints):
        try container.zeroPoints(of: tensor).withUnsafeBytes(body)
      case (.stored(let container, let tensor), .values) where scheme == nil:
        try container.forEachExtent(of: tensor) { $0.withUnsafeBytes(body) }
      case (.stored(let container, let tensor), .values):
        let step = blockRowCount / TileLayout.tileRowCount
        for tile in stride(from: 0, to: tensor.layout.rowTileCount, by: step) {
          let tiles = tile..<min(tile + step, tensor.layout.rowTileCount)
          try container.rowMajorCodes(of: tensor, rowTiles: tiles).withUnsafeBytes(body)
        }
      case (.view(let view), _):
        for row in stride(from: 0, to: shape.rowCount, by: blockRowCount) {
          view.withRowBytes(row..<min(row + blockRowCount, shape.rowCount), body)
        }
      }
    }
  }
}
