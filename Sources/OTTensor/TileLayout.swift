import OTFoundation

/// The order of a weight's quantized values, in `.otq` and in memory.
///
/// Rows are taken 16 at a time (a row tile), columns 4 at a time. Within a row
/// tile the code of row `r`, column `k` is at `(k / 4)·64 + r·4 + k mod 4`:
/// each 64 bytes hold 4 columns of 16 rows, which is one operand of AVX-512
/// VNNI, two of AVX2, four of NEON's dot product, and a row of an AMX tile.
/// Rows are padded to a multiple of 16 and columns to one of 64 with code 0.
///
/// Packed, codes of at most 4 bits take 4, those of 5 or 6 take 6, others 8:
/// - 4 bits: bytes v0, v1 of two consecutive 64-byte vectors become
///   `v0 | v1 << 4`, so 2 vectors take 64 bytes.
/// - 6 bits: of four consecutive vectors v0…v3, three are stored:
///   `v0 | (v3 & 3) << 6`, `v1 | (v3 >> 2 & 3) << 6`, `v2 | (v3 >> 4) << 6`.
package struct TileLayout: Sendable, Hashable {
  /// Rows of the weight: output channels.
  package let rowCount: Int
  /// Columns of the weight: input channels.
  package let columnCount: Int

  /// Rows of a row tile.
  package static let tileRowCount = 16
  /// Weights of blocks with fewer rows than a row tile stay as they are: padded to 16 rows they would grow.
  package static let leastRowCount = tileRowCount
  /// Columns are padded to a multiple of this.
  package static let columnUnit = 64

  /// - Precondition: both counts come from a valid `Shape`.
  package init(rowCount: Int, columnCount: Int) {
    self.rowCount = rowCount
    self.columnCount = columnCount
  }

  /// Columns with padding.
  package var paddedColumnCount: Int { columnCount.roundedUp(toMultipleOf: TileLayout.columnUnit) }
  /// Row tiles, the last perhaps padded.
  package var rowTileCount: Int { (rowCount + TileLayout.tileRowCount - 1) / TileLayout.tileRowCount }
  /// Bytes of one row tile with one code to a byte.
  package var rowTileByteCount: Int { TileLayout.tileRowCount * paddedColumnCount }
  /// Bytes of the whole with one code to a byte.
  package var byteCount: Int { rowTileCount * rowTileByteCount }

  /// Bits that a code of `bits` takes when packed: 4, 6 or 8.
  package static func packedBitWidth(bits: Int) -> Int { bits <= 4 ? 4 : bits <= 6 ? 6 : 8 }

  /// Bytes of one packed row tile; a multiple of 64.
  package func packedRowTileByteCount(bits: Int) -> Int {
    rowTileByteCount / 8 * TileLayout.packedBitWidth(bits: bits)
  }

  /// Bytes of the whole, packed.
  package func packedByteCount(bits: Int) -> Int {
    rowTileCount * packedRowTileByteCount(bits: bits)
  }

  /// The rows of row tiles `tiles`; the last tile has perhaps fewer than 16.
  package func rows(of tiles: Range<Int>) -> Range<Int> {
    let upper = min(tiles.upperBound * TileLayout.tileRowCount, rowCount)
    return min(tiles.lowerBound * TileLayout.tileRowCount, upper)..<upper
  }

  /// Index of a code with one code to a byte.
  package func index(row: Int, column: Int) -> Int {
    row / 16 * rowTileByteCount + column / 4 * 64 + row % 16 * 4 + column % 4
  }
}
