import OTKernels
import OTTensor
import Testing
import _OTTestSupport

/// Integer products against Swift's own integers.
@Suite struct ProductsTests {
  struct Case: Sendable {
    let rowCount, columnCount, activationCount: Int
  }
  static let cases = [
    Case(rowCount: 1, columnCount: 1, activationCount: 1),
    Case(rowCount: 16, columnCount: 64, activationCount: 2),
    Case(rowCount: 37, columnCount: 130, activationCount: 3),
    Case(rowCount: 20, columnCount: 70, activationCount: 15),
    Case(rowCount: 33, columnCount: 200, activationCount: 4),
  ]

  @Test(arguments: InstructionSet.available, cases)
  func products(_ set: InstructionSet, _ shape: Case) throws {
    let kernels = try #require(Kernels(set))
    var generator = SeededGenerator()
    let layout = TileLayout(rowCount: shape.rowCount, columnCount: shape.columnCount)
    let width = layout.paddedColumnCount
    for bits in 2...8 {
      let weights = (0..<shape.rowCount).map { _ in
        (0..<shape.columnCount).map { _ in
          UInt8.random(in: 0...UInt8(1 << bits - 1), using: &generator)
        }
      }
      let packed = Self.pack(weights, layout: layout, bits: bits)
      let activations = (0..<shape.activationCount * width).map { _ in
        Int8.random(in: -128...127, using: &generator)
      }
      let rowTiles =
        Int.random(in: 0..<layout.rowTileCount, using: &generator)..<layout.rowTileCount
      for columns in [0..<width, 16..<48, 32..<32] {
        let result = kernels.multiply(
          packed, layout: layout, bits: bits, rowTiles: rowTiles, columns: columns,
          activations: activations, rowCount: shape.activationCount)
        var expected: [Int32] = []
        for m in 0..<shape.activationCount {
          for n in rowTiles.lowerBound * 16..<rowTiles.upperBound * 16 {
            let sum = columns.reduce(0) { sum, k in
              guard n < shape.rowCount, k < shape.columnCount else { return sum }
              return sum + Int(weights[n][k]) * Int(activations[m * width + k])
            }
            expected.append(Int32(sum))
          }
        }
        #expect(result == expected, "seed \(generator.seed), bits \(bits), columns \(columns)")
      }
    }
  }

  /// Where a 16-bit intermediate would saturate.
  @Test(arguments: InstructionSet.available, [Int8.min, -127, Int8.max])
  func extremes(_ set: InstructionSet, _ activation: Int8) throws {
    let kernels = try #require(Kernels(set))
    let layout = TileLayout(rowCount: 16, columnCount: 1024)
    for bits in [4, 6, 8] {
      let code = UInt8(1 << bits - 1)
      let weights = [[UInt8]](repeating: [UInt8](repeating: code, count: 1024), count: 16)
      let result = kernels.multiply(
        Self.pack(weights, layout: layout, bits: bits), layout: layout, bits: bits, rowTiles: 0..<1,
        columns: 0..<1024, activations: [Int8](repeating: activation, count: 9 * 1024), rowCount: 9)
      #expect(result == [Int32](repeating: 1024 * Int32(code) * Int32(activation), count: 9 * 16))
    }
  }

  private static func pack(_ weights: [[UInt8]], layout: TileLayout, bits: Int) -> [UInt8] {
    var codes = [UInt8](repeating: 0, count: layout.byteCount)
    for (row, values) in weights.enumerated() {
      for (column, code) in values.enumerated() {
        codes[layout.index(row: row, column: column)] = code
      }
    }
    return Kernels.scalar.pack(codes, bits: bits)
  }
}
