import OTFoundation
import OTKernels
import OTTensor
import Testing
import _OTTestSupport

/// Products of activations that have a scale per group of columns: the scalar ones against Swift's own integers and
/// fused multiply-add, the others against the scalar ones.
@Suite struct GroupedProductsTests {
  /// Weights, activations and groups of one product.
  struct Case {
    let layout: TileLayout
    let bits, groupSize, rowCount: Int
    var packed: [UInt8] = []
    var weights: [[UInt8]] = []
    var activations: [Int8] = []
    var groups: [CodeRow] = []
    var zeroPoints: [Int32] = []
    /// Codes of 0 of the groups; none: all are 0.
    var zeros: [Int32] = []
    var groupCount: Int { (layout.columnCount + groupSize - 1) / groupSize }

    init(
      rows: Int, columns: Int, bits: Int, groupSize: Int, rowCount: Int, isAsymmetric: Bool = false,
      using generator: inout SeededGenerator
    ) {
      layout = TileLayout(rowCount: rows, columnCount: columns)
      (self.bits, self.groupSize, self.rowCount) = (bits, groupSize, rowCount)
      var codes = [UInt8](repeating: 0, count: layout.byteCount)
      weights = (0..<rows).map { row in
        (0..<columns).map { column in
          let code = UInt8.random(in: 0...UInt8(1 << bits - 1), using: &generator)
          codes[layout.index(row: row, column: column)] = code
          return code
        }
      }
      packed = Kernels.scalar.pack(codes, bits: bits)
      let width = layout.paddedColumnCount
      for _ in 0..<rowCount {
        var row = (0..<columns).map { _ in Int8.random(in: -127...127, using: &generator) }
        row += [Int8](repeating: 0, count: width - columns)
        for first in stride(from: 0, to: columns, by: groupSize) {
          let sum = row[first..<min(first + groupSize, width)].reduce(0) { $0 + Int32($1) }
          groups.append(CodeRow(scale: Float.random(in: 1e-4...3, using: &generator), codeSum: sum))
        }
        activations += row
      }
      zeroPoints = (0..<layout.rowTileCount * 16).map { $0 < rows ? Int32.random(in: 0...255, using: &generator) : 0 }
      if isAsymmetric { zeros = groups.map { _ in Int32.random(in: -128...127, using: &generator) } }
    }

    /// Σ (u − zeroPoint) of each group, as products take it; of padding minus its zero points, 0.
    func offsets(_ rowTiles: Range<Int>) -> (zeros: [Int32], weightSums: [Int32])? {
      guard !zeros.isEmpty else { return nil }
      var sums: [Int32] = []
      for tile in rowTiles {
        for group in 0..<groupCount {
          for channel in tile * 16..<tile * 16 + 16 {
            let members = group * groupSize..<min((group + 1) * groupSize, layout.columnCount)
            sums.append(
              channel < layout.rowCount
                ? members.reduce(0) { $0 + Int32(weights[channel][$1]) - zeroPoints[channel] } : 0)
          }
        }
      }
      return (zeros, sums)
    }

    func result(_ kernels: Kernels, rowTiles: Range<Int>, columns: Range<Int>) -> [Float] {
      kernels.multiply(
        packed, layout: layout, bits: bits, rowTiles: rowTiles, columns: columns, activations: activations,
        groupSize: groupSize, groups: groups,
        zeroPoints: Array(zeroPoints[rowTiles.lowerBound * 16..<rowTiles.upperBound * 16]),
        offsets: offsets(rowTiles), rowCount: rowCount)
    }

    /// Σ over groups in order, fused, of the scale times the exact sum.
    func expected(row: Int, channel: Int, columns: Range<Int>) -> Float {
      guard channel < layout.rowCount else { return 0 }
      var result: Float = 0
      for group in columns.lowerBound / groupSize..<(columns.upperBound + groupSize - 1) / groupSize {
        let members = group * groupSize..<min((group + 1) * groupSize, columns.upperBound, layout.columnCount)
        let sum = members.reduce(0) { sum, k in
          sum + (Int(weights[channel][k]) - Int(zeroPoints[channel]))
            * (Int(activations[row * layout.paddedColumnCount + k])
              - (zeros.isEmpty ? 0 : Int(zeros[row * groupCount + group])))
        }
        result = result.addingProduct(groups[row * groupCount + group].scale, Float(sum))
      }
      return result
    }
  }

  @Test(arguments: Kernels.activationGroupSizes, [false, true]) func scalar(groupSize: Int, isAsymmetric: Bool) {
    var generator = SeededGenerator()
    for bits in 2...8 {
      let test = Case(
        rows: 37, columns: 300, bits: bits, groupSize: groupSize, rowCount: 3, isAsymmetric: isAsymmetric,
        using: &generator)
      for columns in [0..<304, groupSize..<256, 0..<groupSize] where !columns.isEmpty {
        let result = test.result(.scalar, rowTiles: 1..<3, columns: columns)
        for row in 0..<3 {
          for channel in 16..<48 {
            #expect(
              result[row * 32 + channel - 16] == test.expected(row: row, channel: channel, columns: columns),
              "seed \(generator.seed), \(bits) bits, \(columns), row \(row), channel \(channel)")
          }
        }
      }
    }
  }

  /// Counts of rows on both sides of every bound between ways to multiply, columns of one panel and of several.
  @Test(arguments: InstructionSet.available.dropFirst(), [4, 6, 8])
  func agreement(_ set: InstructionSet, bits: Int) throws {
    let kernels = try #require(Kernels(set))
    var generator = SeededGenerator()
    for rowCount in Array(0...34) + [131] {
      let isLong = rowCount % 11 == 7
      let test = Case(
        rows: Int.random(in: 1...(isLong ? 70 : 150), using: &generator),
        columns: Int.random(in: isLong ? 1100...2200 : 1...300, using: &generator), bits: bits,
        groupSize: Kernels.activationGroupSizes[rowCount % 4], rowCount: rowCount,
        isAsymmetric: Bool.random(using: &generator), using: &generator)
      let width = test.layout.columnCount.roundedUp(toMultipleOf: 16)
      let middle = Int.random(in: 0..<test.groupCount, using: &generator) * test.groupSize
      for columns in [0..<width, middle..<width, 0..<middle] {
        func result(_ kernels: Kernels) -> [UInt32] {
          test.result(kernels, rowTiles: 0..<test.layout.rowTileCount, columns: columns).map(\.bitPattern)
        }
        #expect(
          result(kernels) == result(.scalar),
          "seed \(generator.seed), \(rowCount) rows, \(test.layout), groups of \(test.groupSize), \(columns)")
      }
    }
  }

  /// The largest sums that there can be: products and zero points.
  @Test(arguments: InstructionSet.available, Kernels.activationGroupSizes)
  func extremes(_ set: InstructionSet, groupSize: Int) throws {
    let kernels = try #require(Kernels(set))
    let layout = TileLayout(rowCount: 64, columnCount: 512)
    let packed = [UInt8](repeating: 255, count: layout.byteCount)
    for rowCount in [1, 30] {
      for (code, zeroPoint) in [(Int8(127), Int32(0)), (-127, 0), (127, 255), (-127, 255)] {
        let groups = [CodeRow](
          repeating: CodeRow(scale: 1, codeSum: Int32(code) * Int32(groupSize)), count: rowCount * 512 / groupSize)
        let result = kernels.multiply(
          packed, layout: layout, bits: 8, rowTiles: 0..<4, columns: 0..<512,
          activations: [Int8](repeating: code, count: rowCount * 512), groupSize: groupSize, groups: groups,
          zeroPoints: [Int32](repeating: zeroPoint, count: 64), rowCount: rowCount)
        let expected = Float(512 * (255 - zeroPoint) * Int32(code))
        #expect(result.allSatisfy { $0 == expected }, "\(code), \(zeroPoint)")
      }
    }
  }

  /// Groups are rows of their own, but for what stands beyond the row.
  @Test(arguments: InstructionSet.available) func codesOfGroups(_ set: InstructionSet) throws {
    let kernels = try #require(Kernels(set))
    var generator = SeededGenerator()
    for count in [1, 31, 32, 33, 100, 300] {
      for groupSize in Kernels.activationGroupSizes {
        let row = HardRows.row(count: count, scale: 1, nonFinite: count == 300, using: &generator)
        let (codes, groups) = kernels.quantizeGroups(row, bits: 6, groupSize: groupSize, paddedTo: count + 3)
        var expected: [Int8] = []
        for (index, first) in stride(from: 0, to: count, by: groupSize).enumerated() {
          let members = Array(row[first..<min(first + groupSize, count)])
          let result = kernels.quantizeDynamically(members, bits: 6, paddedTo: members.count)
          expected += result.codes
          #expect(groups[index].sum == result.row.sum, "seed \(generator.seed)")
          #expect(groups[index].scale.bitPattern == result.row.scale.bitPattern, "seed \(generator.seed)")
        }
        #expect(codes == expected + [0, 0, 0], "seed \(generator.seed)")
        let offset = kernels.quantizeGroupsAsymmetrically(row, bits: 6, groupSize: groupSize, paddedTo: count + 3)
        expected = []
        for (index, first) in stride(from: 0, to: count, by: groupSize).enumerated() {
          let members = Array(row[first..<min(first + groupSize, count)])
          let result = kernels.quantizeAsymmetrically(members, bits: 6, paddedTo: members.count)
          expected += result.codes
          #expect(offset.groups[index].sum == result.row.sum, "seed \(generator.seed)")
          #expect(offset.groups[index].scale.bitPattern == result.row.scale.bitPattern, "seed \(generator.seed)")
          #expect(offset.zeros[index] == result.row.zero, "seed \(generator.seed)")
        }
        #expect(offset.codes == expected + [0, 0, 0], "seed \(generator.seed)")
      }
    }
  }

  /// scale · part, added to what is there, plus the bias.
  @Test(arguments: InstructionSet.available) func epilogue(_ set: InstructionSet) throws {
    let kernels = try #require(Kernels(set))
    var generator = SeededGenerator()
    func floats(_ count: Int) -> [Float] { (0..<count).map { _ in Float.random(in: -9...9, using: &generator) } }
    for count in [1, 16, 37] {
      let (parts, scales, bias) = (floats(2 * count), floats(count), floats(count))
      let before = floats(2 * count)
      for accumulates in [false, true] {
        var target = before
        parts.withUnsafeBufferPointer { parts in
          scales.withUnsafeBufferPointer { scales in
            bias.withUnsafeBufferPointer { bias in
              target.withUnsafeMutableBufferPointer { target in
                var epilogue = Epilogue(
                  .groups(parts), productStride: count, scales: scales, tokenScales: nil, bias: bias, rowCount: 2,
                  target: target, targetStride: count)
                epilogue.accumulates = accumulates
                kernels.finish(epilogue)
              }
            }
          }
        }
        for index in 0..<2 * count {
          let value = scales[index % count] * parts[index]
          let sum = (accumulates ? before[index] + value : value) + bias[index % count]
          #expect(target[index] == sum, "seed \(generator.seed)")
        }
      }
    }
  }
}
