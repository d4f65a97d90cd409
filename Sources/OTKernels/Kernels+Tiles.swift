import COTKernels
import OTTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

// Codes into the order of `TileLayout`, into bits, and back.
extension Kernels {
  /// Arranges 16 rows of codes, `[16, paddedColumnCount]`, as one row tile.
  ///
  /// - Precondition: both buffers have the same count, a multiple of 1,024.
  package func interleave(
    _ rows: UnsafeBufferPointer<UInt8>, into tile: UnsafeMutableBufferPointer<UInt8>
  ) {
    let columnCount = Kernels.columnCount(ofTile: tile.count)
    precondition(rows.count == tile.count, "counts differ")
    guard let from = rows.baseAddress, let to = tile.baseAddress, columnCount > 0 else { return }
    table.pointee.interleave(from, columnCount, columnCount, to)
  }

  /// All rows of a weight, one quantized value to a byte, in the order of `layout`, with padding.
  ///
  /// - Precondition: `values` are the rows of the layout.
  package func interleaved(_ values: [UInt8], _ layout: TileLayout) -> [UInt8] {
    precondition(values.count == layout.rowCount * layout.columnCount, "counts differ")
    let (columnCount, padded) = (layout.columnCount, layout.paddedColumnCount)
    let tile = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: layout.rowTileByteCount)
    defer { tile.deallocate() }
    tile.initialize(repeating: 0)
    return [UInt8](unsafeUninitializedCapacity: layout.byteCount) { buffer, count in
      values.withUnsafeBufferPointer { values in
        for index in 0..<layout.rowTileCount {
          let rows = layout.rows(of: index..<index + 1)
          let start = index * layout.rowTileByteCount
          let target = UnsafeMutableBufferPointer(rebasing: buffer[start..<start + layout.rowTileByteCount])
          let source = values[rows.lowerBound * columnCount..<rows.upperBound * columnCount]
          if source.count == target.count {
            interleave(UnsafeBufferPointer(rebasing: source), into: target)
            continue
          }
          for (position, row) in rows.enumerated() {
            _ = tile[(position * padded)...].update(
              fromContentsOf: values[row * columnCount..<(row + 1) * columnCount])
          }
          tile[(rows.count * padded)...].update(repeating: 0)
          interleave(UnsafeBufferPointer(tile), into: target)
        }
      }
      count = layout.byteCount
    }
  }

  /// Arranges one row tile as 16 rows of codes, `[16, paddedColumnCount]`.
  ///
  /// - Precondition: both buffers have the same count, a multiple of 1,024.
  package func deinterleave(
    _ tile: UnsafeBufferPointer<UInt8>, into rows: UnsafeMutableBufferPointer<UInt8>
  ) {
    let columnCount = Kernels.columnCount(ofTile: tile.count)
    precondition(rows.count == tile.count, "counts differ")
    guard let from = tile.baseAddress, let to = rows.baseAddress, columnCount > 0 else { return }
    table.pointee.deinterleave(from, columnCount, to, columnCount)
  }

  /// Packs whole row tiles into 4, 6 or 8 bits a code, as `TileLayout` says.
  ///
  /// - Precondition: every code fits `TileLayout.packedBitWidth(bits:)` bits,
  ///   the number of codes is a multiple of 1,024, and `packed` is of the size
  ///   that follows.
  package func pack(
    _ codes: UnsafeBufferPointer<UInt8>, bits: Int, into packed: UnsafeMutableBufferPointer<UInt8>
  ) {
    let width = Kernels.packedBitWidth(bits: bits, codeCount: codes.count, byteCount: packed.count)
    guard let from = codes.baseAddress, let to = packed.baseAddress, !codes.isEmpty else { return }
    switch width {
    case 4: table.pointee.pack4(from, codes.count, to)
    case 6: table.pointee.pack6(from, codes.count, to)
    default: memcpy(to, from, codes.count)
    }
  }

  /// The inverse of `pack`. Every packed byte stands for codes below
  /// 2^packedBitWidth; whether they are within the scheme is not checked.
  package func unpack(
    _ packed: UnsafeBufferPointer<UInt8>, bits: Int, into codes: UnsafeMutableBufferPointer<UInt8>
  ) {
    let width = Kernels.packedBitWidth(bits: bits, codeCount: codes.count, byteCount: packed.count)
    guard let from = packed.baseAddress, let to = codes.baseAddress, !codes.isEmpty else { return }
    switch width {
    case 4: table.pointee.unpack4(from, codes.count, to)
    case 6: table.pointee.unpack6(from, codes.count, to)
    default: memcpy(to, from, codes.count)
    }
  }

  /// Index of the first code outside `range`; nil when there is none.
  package func firstCode(in codes: UnsafeBufferPointer<UInt8>, outside range: ClosedRange<UInt8>)
    -> Int?
  {
    guard let base = codes.baseAddress else { return nil }
    let index = table.pointee.first_outside(base, codes.count, range.lowerBound, range.upperBound)
    return index < 0 ? nil : index
  }

  /// Index, in one row tile of unpacked codes, of the first that is outside
  /// `range` or, in padding, not 0; nil when all are as they must be.
  ///
  /// - Precondition: `rowTile` is one of the layout's, and `tile` its codes.
  package func firstInvalidCode(
    inRowTile rowTile: Int, of layout: TileLayout, _ tile: UnsafeBufferPointer<UInt8>,
    codes range: ClosedRange<UInt8>
  ) -> Int? {
    precondition(
      (0..<layout.rowTileCount).contains(rowTile) && tile.count == layout.rowTileByteCount)
    let rowCount = min(16, layout.rowCount - rowTile * 16)
    // The columns that fill their group of 4 have no padding in a full tile.
    let denseCount = rowCount == 16 ? layout.columnCount / 4 * 64 : 0
    let dense = UnsafeBufferPointer(rebasing: tile[..<denseCount])
    if let index = firstCode(in: dense, outside: range) { return index }
    let mixedEnd = layout.columnCount.roundedUp(toMultipleOf: 4) / 4 * 64
    for index in denseCount..<mixedEnd {
      let isPadding = index / 64 * 4 + index % 4 >= layout.columnCount || index % 64 / 4 >= rowCount
      guard isPadding ? tile[index] == 0 : range.contains(tile[index]) else { return index }
    }
    let padding = UnsafeBufferPointer(rebasing: tile[mixedEnd...])
    return firstCode(in: padding, outside: 0...0).map { mixedEnd + $0 }
  }

  private static func columnCount(ofTile codeCount: Int) -> Int {
    precondition(codeCount % (16 * TileLayout.columnUnit) == 0, "not a row tile")
    return codeCount / 16
  }

  private static func packedBitWidth(bits: Int, codeCount: Int, byteCount: Int) -> Int {
    let width = TileLayout.packedBitWidth(bits: bits)
    precondition(codeCount % (16 * TileLayout.columnUnit) == 0, "not whole row tiles")
    precondition(byteCount == codeCount / 8 * width, "counts differ")
    return width
  }
}
