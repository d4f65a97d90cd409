import OTFoundation
import OTKernels
import OTTensor

// The data of tensors.
extension Container {
  /// Steps of a quantized tensor, `[row, group]`: positive and finite.
  ///
  /// - Throws: `Refusal` with rule `otq-scale`, `otq-checksum`, `otq-frame` or `otq-frame-data`.
  package func scales(of tensor: StoredTensor) throws -> [Float] {
    guard let plane = tensor.planes["scales"] else { return [] }
    let scales = Container.floats(try bytes(of: plane.extents, name: "tensor '\(tensor.name)'"))
    if let index = scales.firstIndex(where: { !($0 > 0 && $0.isFinite) }) {
      throw Refusal("otq-scale", "scale \(index) is \(scales[index])", file: file.path, tensor: tensor.name)
    }
    return scales
  }

  /// Zero points of a quantized tensor, one to a scale.
  ///
  /// - Throws: `Refusal` with rule `otq-zero-point`, or as `scales(of:)`.
  package func zeroPoints(of tensor: StoredTensor) throws -> [UInt8] {
    guard let scheme = tensor.scheme else { return [] }
    guard let plane = tensor.planes["zeroPoints"] else {
      let count = scheme.scaleCount(rowCount: tensor.layout.rowCount, columnCount: tensor.layout.columnCount)
      return [UInt8](repeating: UInt8(scheme.symmetricZeroPoint), count: count)
    }
    let points = try bytes(of: plane.extents, name: "tensor '\(tensor.name)'")
    let maximum = scheme.maximumCode
    if let index = points.firstIndex(where: { $0 > maximum }) {
      throw Refusal(
        "otq-zero-point", "zero point \(index) is \(points[index])", file: file.path, tensor: tensor.name)
    }
    return points
  }

  /// Codes of some row tiles, one to a byte in tile order.
  ///
  /// - Precondition: the tensor is quantized and the tiles are its own.
  /// - Throws: `Refusal` with rule `otq-code`, or as `scales(of:)`.
  package func codes(of tensor: StoredTensor, rowTiles: Range<Int>) throws -> [UInt8] {
    guard case .quantized(let scheme, let form, let rowTilesPerChunk) = tensor.content,
      let plane = tensor.planes["codes"]
    else { preconditionFailure("not a quantized tensor") }
    precondition(rowTiles.lowerBound >= 0 && rowTiles.upperBound <= tensor.layout.rowTileCount)
    let layout = tensor.layout
    // A matrix without columns has row tiles, but no extents.
    guard !rowTiles.isEmpty, layout.rowTileByteCount > 0 else { return [] }
    let chunks = rowTiles.lowerBound / rowTilesPerChunk...(rowTiles.upperBound - 1) / rowTilesPerChunk
    var result: [UInt8] = []
    for chunk in chunks {
      let extent = extents[plane.extents.lowerBound + chunk]
      var codes = try Container.bytes(of: extent, in: file, name: "tensor '\(tensor.name)'")
      if form == .packed { codes = Container.unpacked(codes, bits: scheme.bits) }
      let first = chunk * rowTilesPerChunk
      let wanted = max(rowTiles.lowerBound, first)..<min(rowTiles.upperBound, first + rowTilesPerChunk)
      for tile in wanted {
        let start = (tile - first) * layout.rowTileByteCount
        let part = codes[start..<start + layout.rowTileByteCount]
        try part.withUnsafeBufferPointer { try check($0, tile, tensor, scheme, extent) }
        result += part
      }
    }
    return result
  }

  /// Checks that the codes of a row tile are some that the scheme has.
  func check(
    _ part: UnsafeBufferPointer<UInt8>, _ tile: Int, _ tensor: StoredTensor, _ scheme: QuantizationScheme,
    _ extent: Extent
  ) throws {
    let invalid = Kernels.current.firstInvalidCode(
      inRowTile: tile, of: tensor.layout, part, codes: UInt8(scheme.minimumCode)...UInt8(scheme.maximumCode))
    guard let invalid else { return }
    throw Refusal(
      "otq-code", "code \(part[invalid]) of row tile \(tile) is not one of \(scheme.bits) bits",
      file: file.path, tensor: tensor.name, byteOffset: extent.byteOffset)
  }

  private static func unpacked(_ packed: [UInt8], bits: Int) -> [UInt8] {
    let count = packed.count * 8 / TileLayout.packedBitWidth(bits: bits)
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      packed.withUnsafeBufferPointer {
        Kernels.current.unpack($0, bits: bits, into: UnsafeMutableBufferPointer(rebasing: buffer[..<count]))
      }
      initialized = count
    }
  }

  /// The packed codes of a tensor where they lie in the mapped file, ready for
  /// the kernels; nil when the file has them one to a byte.
  ///
  /// Nothing is read or checked: `verify(threadCount:)` does that.
  package func mappedPackedCodes(of tensor: StoredTensor) -> UnsafeRawBufferPointer? {
    guard case .quantized(_, .packed, _) = tensor.content, let run = tensor.planes["codes"]?.extents,
      let first = run.first, let last = run.last
    else { return nil }
    // Packed row tiles are multiples of 64 bytes, so no padding lies between.
    return file.bytes(in: extents[first].byteOffset..<extents[last].end)
  }

  /// The elements of a plain tensor where they lie in the mapped file; nil when
  /// they are compressed. Nothing is read or checked, as above.
  package func mappedValues(of tensor: StoredTensor) -> UnsafeRawBufferPointer? {
    guard case .plain = tensor.content, let run = tensor.planes["values"]?.extents, let first = run.first,
      let last = run.last, extents[run].allSatisfy({ $0.codec == .raw })
    else { return nil }
    let range = extents[first].byteOffset..<extents[last].end
    // Extents of another writer may have padding between them.
    return range.count == extents.decodedByteCount(run) ? file.bytes(in: range) : nil
  }

  /// Elements of a tensor stored as it is, row-major and little-endian.
  ///
  /// - Precondition: the tensor is plain.
  /// - Throws: as `scales(of:)`.
  package func values(of tensor: StoredTensor) throws -> [UInt8] {
    guard case .plain = tensor.content, let plane = tensor.planes["values"] else {
      preconditionFailure("not a plain tensor")
    }
    return try bytes(of: plane.extents, name: "tensor '\(tensor.name)'")
  }

  /// Calls `body` with the bytes of a plain tensor, extent after extent: about
  /// 256 KiB at a time, so that memory does not grow with the tensor.
  ///
  /// - Throws: as `scales(of:)`, and what `body` throws.
  package func forEachExtent(of tensor: StoredTensor, _ body: ([UInt8]) throws -> Void) throws {
    guard let plane = tensor.planes["values"] else { return }
    for extent in extents[plane.extents] {
      try body(Container.bytes(of: extent, in: file, name: "tensor '\(tensor.name)'"))
    }
  }

  /// Elements of some rows of a plain tensor, of whose extents no more are read than needed.
  ///
  /// - Precondition: the tensor is plain, its elements are whole bytes, and the rows are its own.
  /// - Throws: as `scales(of:)`.
  package func values(of tensor: StoredTensor, rows: Range<Int>) throws -> [UInt8] {
    guard case .plain(let type) = tensor.content, let plane = tensor.planes["values"] else {
      preconditionFailure("not a plain tensor")
    }
    let rowByteCount = tensor.shape.rowElementCount * type.bitWidth / 8
    let wanted = rows.lowerBound * rowByteCount..<rows.upperBound * rowByteCount
    var result: [UInt8] = []
    result.reserveCapacity(wanted.count)
    var start = 0
    for extent in extents[plane.extents] {
      let range = start..<start + extent.decodedByteCount
      start = range.upperBound
      guard range.overlaps(wanted) else { continue }
      let part = range.clamped(to: wanted)
      let bytes = try Container.bytes(of: extent, in: file, name: "tensor '\(tensor.name)'")
      result += bytes[part.lowerBound - range.lowerBound..<part.upperBound - range.lowerBound]
    }
    return result
  }

  /// Float elements of a plain tensor as float32.
  ///
  /// - Precondition: the tensor is plain and of a float type.
  /// - Throws: as `scales(of:)`.
  package func floats(of tensor: StoredTensor) throws -> [Float] {
    Container.floats(tensor, try values(of: tensor))
  }

  /// Float elements of some rows of a plain tensor as float32.
  ///
  /// - Precondition: the tensor is plain and of a float type, and the rows are its own.
  /// - Throws: as `scales(of:)`.
  package func floats(of tensor: StoredTensor, rows: Range<Int>) throws -> [Float] {
    Container.floats(tensor, try values(of: tensor, rows: rows))
  }

  private static func floats(_ tensor: StoredTensor, _ bytes: [UInt8]) -> [Float] {
    guard case .plain(let type) = tensor.content else { preconditionFailure("not a plain tensor") }
    let elementCount = bytes.count * 8 / type.bitWidth
    return [Float](unsafeUninitializedCapacity: elementCount) { buffer, count in
      bytes.withUnsafeBytes {
        Kernels.current.convert($0, from: type, to: UnsafeMutableBufferPointer(rebasing: buffer[..<elementCount]))
      }
      count = elementCount
    }
  }

  /// Codes of a tile-aligned range of rows, row-major.
  ///
  /// - Precondition: the tensor is quantized and the tiles are its own.
  /// - Throws: as `codes(of:rowTiles:)`.
  package func rowMajorCodes(of tensor: StoredTensor, rowTiles: Range<Int>) throws -> [UInt8] {
    let layout = tensor.layout
    guard layout.columnCount > 0 else { return [] }
    let codes = try codes(of: tensor, rowTiles: rowTiles)
    var result: [UInt8] = []
    result.reserveCapacity(layout.rows(of: rowTiles).count * layout.columnCount)
    let plain = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: layout.rowTileByteCount)
    defer { plain.deallocate() }
    for tile in rowTiles {
      let start = (tile - rowTiles.lowerBound) * layout.rowTileByteCount
      codes.withUnsafeBufferPointer {
        Kernels.current.deinterleave(
          UnsafeBufferPointer(rebasing: $0[start..<start + layout.rowTileByteCount]), into: plain)
      }
      for row in 0..<layout.rows(of: tile..<tile + 1).count {
        let from = row * layout.paddedColumnCount
        result += plain[from..<from + layout.columnCount]
      }
    }
    return result
  }

  /// Dequantized rows of a tile-aligned range, row-major: `scale × (u − zeroPoint)`.
  ///
  /// - Precondition: the tensor is quantized; `scales` and `zeroPoints` are its own.
  /// - Throws: as `codes(of:rowTiles:)`.
  package func dequantized(
    _ tensor: StoredTensor, rowTiles: Range<Int>, scales: [Float], zeroPoints: [UInt8]
  ) throws -> [Float] {
    guard let scheme = tensor.scheme else { preconditionFailure("not a quantized tensor") }
    let layout = tensor.layout
    // Of rows without columns there may be 2^31.
    guard layout.columnCount > 0 else { return [] }
    let codes = try codes(of: tensor, rowTiles: rowTiles)
    let rows = layout.rows(of: rowTiles)
    var result = [Float](repeating: 0, count: rows.count * layout.columnCount)
    let plain = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: layout.rowTileByteCount)
    defer { plain.deallocate() }
    let groupCount = scheme.groupCount(columnCount: layout.columnCount)
    let groupSize = scheme.groupSize(columnCount: layout.columnCount)
    codes.withUnsafeBufferPointer { codes in
      result.withUnsafeMutableBufferPointer { result in
        for row in rows {
          let tile = row / 16 - rowTiles.lowerBound
          if row % 16 == 0 {
            let start = tile * layout.rowTileByteCount
            Kernels.current.deinterleave(
              UnsafeBufferPointer(rebasing: codes[start..<start + layout.rowTileByteCount]), into: plain)
          }
          let from = row % 16 * layout.paddedColumnCount
          let to = (row - rows.lowerBound) * layout.columnCount
          Kernels.current.dequantize(
            UnsafeBufferPointer(rebasing: plain[from..<from + layout.columnCount]), columns: 0..<layout.columnCount,
            groupSize: groupSize, into: UnsafeMutableBufferPointer(rebasing: result[to..<to + layout.columnCount])
          ) { group in
            let step = scheme.granularity == .perTensor ? 0 : row * groupCount + group
            return (scales[step], Int(zeroPoints[step]))
          }
        }
      }
    }
    return result
  }

  static func floats(_ bytes: [UInt8]) -> [Float] {
    bytes.withUnsafeBytes { bytes in
      [Float](unsafeUninitializedCapacity: bytes.count / 4) { floats, count in
        count = bytes.count / 4
        for index in 0..<count { floats[index] = Float(bitPattern: bytes.littleEndian(at: index * 4)) }
      }
    }
  }
}
