import OTKernels
import OTTensor
import Testing
import _OTTestSupport

/// Codes in tiles and bits, against the formulas in `TileLayout`'s comment.
@Suite struct TilesTests {
  let kernels = Kernels.scalar

  @Test func rowTile() {
    var generator = SeededGenerator()
    let columnCount = 192
    let rows = (0..<16 * columnCount).map { _ in UInt8.random(in: 0...255, using: &generator) }
    let tile = kernels.interleave(rows)
    for row in 0..<16 {
      for k in 0..<columnCount {
        #expect(tile[(k / 4) * 64 + row * 4 + k % 4] == rows[row * columnCount + k])
      }
    }
    #expect(kernels.deinterleave(tile) == rows)
  }

  @Test func sixBits() {
    var generator = SeededGenerator()
    let codes = (0..<2048).map { _ in UInt8.random(in: 0...63, using: &generator) }
    var expected: [UInt8] = []
    for start in stride(from: 0, to: codes.count, by: 256) {
      let v = (0..<4).map { Array(codes[start + $0 * 64..<start + $0 * 64 + 64]) }
      expected += (0..<64).map { v[0][$0] | (v[3][$0] & 3) << 6 }
      expected += (0..<64).map { v[1][$0] | (v[3][$0] >> 2 & 3) << 6 }
      expected += (0..<64).map { v[2][$0] | (v[3][$0] >> 4) << 6 }
    }
    #expect(kernels.pack(codes, bits: 6) == expected, "seed \(generator.seed)")
    #expect(kernels.unpack(expected, bits: 6) == codes, "seed \(generator.seed)")
    #expect(kernels.pack(codes, bits: 5) == expected)
  }

  @Test func fourBits() {
    var generator = SeededGenerator()
    let codes = (0..<2048).map { _ in UInt8.random(in: 0...15, using: &generator) }
    var expected: [UInt8] = []
    for start in stride(from: 0, to: codes.count, by: 128) {
      for i in start..<start + 64 { expected.append(codes[i] | codes[i + 64] << 4) }
    }
    for bits in 2...4 {
      #expect(kernels.pack(codes, bits: bits) == expected, "seed \(generator.seed)")
      #expect(kernels.unpack(expected, bits: bits) == codes, "seed \(generator.seed)")
    }
  }

  @Test func eightBitsStay() {
    let codes = (0..<1024).map { UInt8($0 & 255) }
    #expect(kernels.pack(codes, bits: 7) == codes)
    #expect(kernels.unpack(codes, bits: 8) == codes)
  }

  @Test(arguments: [(16, 64), (16, 61), (19, 70), (5, 4), (1, 1), (33, 128)])
  func invalidCodesAreFound(_ rowCount: Int, _ columnCount: Int) {
    let layout = TileLayout(rowCount: rowCount, columnCount: columnCount)
    for rowTile in 0..<layout.rowTileCount {
      var tile = [UInt8](repeating: 0, count: layout.rowTileByteCount)
      for row in rowTile * 16..<min(rowTile * 16 + 16, rowCount) {
        for column in 0..<columnCount {
          tile[layout.index(row: row, column: column) - rowTile * layout.rowTileByteCount] = 5
        }
      }
      func firstInvalid() -> Int? {
        tile.withUnsafeBufferPointer {
          kernels.firstInvalidCode(inRowTile: rowTile, of: layout, $0, codes: 1...63)
        }
      }
      #expect(firstInvalid() == nil)
      for index in stride(from: 0, to: tile.count, by: 7) {
        let was = tile[index]
        // 0 belongs in padding only, 5 outside of it only, 64 nowhere.
        for wrong: UInt8 in [64, was == 0 ? 5 : 0] {
          tile[index] = wrong
          #expect(firstInvalid() == index)
        }
        tile[index] = was
      }
    }
  }
}
