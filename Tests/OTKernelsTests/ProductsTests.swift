import OTKernels
import OTTensor
import Testing
import _OTTestSupport

/// Integer products: the scalar ones against Swift's own integers, the others
/// against the scalar ones.
@Suite struct ProductsTests {
  struct Case: Sendable {
    let rowCount, columnCount, activationCount: Int
  }

  @Test(
    arguments: [
      Case(rowCount: 1, columnCount: 1, activationCount: 1),
      Case(rowCount: 16, columnCount: 64, activationCount: 2),
      Case(rowCount: 37, columnCount: 130, activationCount: 3),
      Case(rowCount: 20, columnCount: 70, activationCount: 15),
      Case(rowCount: 33, columnCount: 200, activationCount: 4),
    ])
  func scalar(_ shape: Case) {
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
        let result = Kernels.scalar.multiply(
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

  /// Every count of activation rows up to 70, some more; every remainder of row
  /// tiles; columns that end anywhere.
  @Test(arguments: InstructionSet.available.dropFirst(), [4, 6, 8])
  func agreement(_ set: InstructionSet, bits: Int) throws {
    let kernels = try #require(Kernels(set))
    var generator = SeededGenerator()
    for activationCount in Array(0...70) + [131, 800] {
      let isLong = activationCount % 23 == 7
      let layout = TileLayout(
        rowCount: Int.random(in: 1...(isLong ? 100 : 240), using: &generator),
        columnCount: Int.random(in: isLong ? 1100...2200 : 1...300, using: &generator))
      let packed = Self.randomCodes(layout, bits: bits, using: &generator)
      let activations = (0..<activationCount * layout.paddedColumnCount).map { _ in
        Int8.random(in: -128...127, using: &generator)
      }
      let firstTile = Int.random(in: 0..<layout.rowTileCount, using: &generator)
      let steps = layout.paddedColumnCount / 16
      let start = Int.random(in: 0..<steps, using: &generator)
      let end = Int.random(in: start...steps, using: &generator)
      for columns in [0..<steps * 16, start * 16..<end * 16] {
        for rowTiles in [firstTile..<layout.rowTileCount, 0..<firstTile] {
          func multiply(_ kernels: Kernels) -> [Int32] {
            kernels.multiply(
              packed, layout: layout, bits: bits, rowTiles: rowTiles, columns: columns,
              activations: activations, rowCount: activationCount)
          }
          #expect(
            multiply(kernels) == multiply(.scalar),
            "seed \(generator.seed), \(activationCount) rows, \(layout), \(rowTiles), \(columns)")
        }
      }
    }
  }

  /// Results further apart than a row is long: what lies between stays.
  @Test(arguments: InstructionSet.available, [2, 40])
  func strides(_ set: InstructionSet, activationCount: Int) throws {
    let kernels = try #require(Kernels(set))
    var generator = SeededGenerator()
    let layout = TileLayout(rowCount: 96, columnCount: 128)
    let packed = Self.randomCodes(layout, bits: 6, using: &generator)
    let activations = (0..<activationCount * 128).map { _ in
      Int8.random(in: -128...127, using: &generator)
    }
    let dense = kernels.multiply(
      packed, layout: layout, bits: 6, rowTiles: 0..<6, columns: 0..<128, activations: activations,
      rowCount: activationCount)
    let sparse = kernels.multiply(
      packed, layout: layout, bits: 6, rowTiles: 0..<6, columns: 0..<128, activations: activations,
      rowCount: activationCount, resultStride: 101)
    for row in 0..<activationCount {
      let values = sparse[row * 101..<(row + 1) * 101]
      #expect(values.elementsEqual(dense[row * 96..<(row + 1) * 96] + [7, 7, 7, 7, 7]))
    }
  }

  /// Values at which a 16-bit intermediate would saturate.
  @Test(arguments: InstructionSet.available, [Int8.min, -127, Int8.max])
  func extremes(_ set: InstructionSet, _ activation: Int8) throws {
    let kernels = try #require(Kernels(set))
    let layout = TileLayout(rowCount: 80, columnCount: 1024)
    for bits in [4, 6, 8] {
      let code = UInt8(1 << bits - 1)
      let weights = [[UInt8]](repeating: [UInt8](repeating: code, count: 1024), count: 80)
      let packed = Self.pack(weights, layout: layout, bits: bits)
      for rowCount in [1, 9, 30] {
        let result = kernels.multiply(
          packed, layout: layout, bits: bits, rowTiles: 0..<5, columns: 0..<1024,
          activations: [Int8](repeating: activation, count: rowCount * 1024), rowCount: rowCount)
        let expected = 1024 * Int32(code) * Int32(activation)
        #expect(result == [Int32](repeating: expected, count: rowCount * 80))
      }
    }
  }

  /// The most columns that a product may have, at its largest sum.
  @Test(arguments: InstructionSet.available)
  func mostColumns(_ set: InstructionSet) throws {
    let kernels = try #require(Kernels(set))
    let width = Kernels.maximumProductColumnCount
    let layout = TileLayout(rowCount: 16, columnCount: width)
    let result = kernels.multiply(
      [UInt8](repeating: 255, count: layout.byteCount), layout: layout, bits: 8, rowTiles: 0..<1,
      columns: 0..<width, activations: [Int8](repeating: -128, count: width), rowCount: 1)
    #expect(result == [Int32](repeating: -2_139_095_040, count: 16))
  }

  @Test(arguments: [1, 8, 24, 64, 512, 100_000], [4, 6, 8])
  func preferredRowTiles(rowCount: Int, bits: Int) {
    for columnCount in [0, 1, 576, 4096, 65_536] {
      let count = Kernels.preferredRowTiles(
        rowCount: rowCount, columnCount: columnCount, bits: bits)
      #expect(count % 4 == 0 && (4...64).contains(count))
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

  private static func randomCodes(
    _ layout: TileLayout, bits: Int, using generator: inout SeededGenerator
  ) -> [UInt8] {
    // Padding may hold anything here: both sides see it.
    (0..<layout.packedByteCount(bits: bits)).map { _ in
      UInt8.random(in: 0...255, using: &generator)
    }
  }
}
