import Foundation
import OTContainer
import OTFoundation
import OTTensor
import Testing
import _OTTestSupport

/// Everything written comes back: every width, scheme, form and odd shape.
struct RoundTripTests {
  /// A weight as a quantizer makes it, its codes `[row, column]`.
  struct Weight {
    let name: String
    let shape: Shape
    let scheme: QuantizationScheme
    var codes: [UInt8] = []
    var scales: [Float] = []
    var zeroPoints: [UInt8] = []

    init(_ name: String, _ shape: Shape, _ scheme: QuantizationScheme, using generator: inout SeededGenerator) {
      self.name = name
      self.shape = shape
      self.scheme = scheme
      let range = UInt8(scheme.isSymmetric ? 1 : 0)...UInt8(1 << scheme.bits - 1)
      codes = (0..<shape.elementCount).map { _ in .random(in: range, using: &generator) }
      let (rows, columns) = (shape.dimensions[0], shape.dimensions[1])
      let count =
        switch scheme.granularity {
        case .perTensor: 1
        case .perChannel: rows
        case .perGroup(let size): rows * Int((Double(columns) / Double(size)).rounded(.up))
        }
      scales = (0..<count).map { _ in .random(in: 1e-6...1, using: &generator) }
      if !scheme.isSymmetric {
        zeroPoints = scales.map { _ in .random(in: 0...range.upperBound, using: &generator) }
      }
    }

    /// Row tiles by enumeration: tile, 4 columns, row, column.
    var tiles: [[UInt8]] {
      let (rows, columns) = (shape.dimensions[0], shape.dimensions[1])
      return stride(from: 0, to: rows, by: 16).map { firstRow in
        var tile: [UInt8] = []
        for firstColumn in stride(from: 0, to: columns + (64 - columns % 64) % 64, by: 4) {
          for row in firstRow..<firstRow + 16 {
            for column in firstColumn..<firstColumn + 4 {
              tile.append(row < rows && column < columns ? codes[row * columns + column] : 0)
            }
          }
        }
        return tile
      }
    }

    var values: [Float] {
      let (rows, columns) = (shape.dimensions[0], shape.dimensions[1])
      return (0..<rows).flatMap { row in
        (0..<columns).map { column in
          let step =
            switch scheme.granularity {
            case .perTensor: 0
            case .perChannel: row
            case .perGroup(let size): row * (scales.count / rows) + column / size
            }
          let zero = zeroPoints.isEmpty ? 1 << (scheme.bits - 1) : Int(zeroPoints[step])
          return scales[step] * Float(Int(codes[row * columns + column]) - zero)
        }
      }
    }

    func write(to writer: ContainerWriter, threadCount: Int = 1) throws {
      let layout = TileLayout(rowCount: shape.rowCount, columnCount: shape.rowElementCount)
      let step = ChunkEncoder.rowTilesPerChunk(layout)
      let first = writer.extentCount, codes = codes, encoder = writer.encoder
      let chunks = try mapBlocks((layout.rowTileCount + step - 1) / step, threadCount: threadCount) { chunk in
        let rows = layout.rows(of: chunk * step..<min((chunk + 1) * step, layout.rowTileCount))
        return try encoder.encode(
          rows: Array(codes[rows.lowerBound * layout.columnCount..<rows.upperBound * layout.columnCount]),
          columnCount: layout.columnCount, bits: scheme.bits)
      }
      for chunk in chunks { try writer.append(chunk) }
      try writer.addQuantized(
        name: name, shape: shape, scheme: scheme, codes: first..<writer.extentCount, scales: scales,
        zeroPoints: zeroPoints, source: nil, error: nil)
    }
  }

  static let shapes = [[1, 1], [16, 64], [17, 65], [3, 200], [33, 1], [0, 5], [5, 0], [0, 0], [40, 130]]
  static let granularities: [QuantizationScheme.Granularity] = [
    .perTensor, .perChannel, .perGroup(size: 16), .perGroup(size: 48), .perGroup(size: 64),
  ]

  @Test(arguments: 2...8, [Compression.zstd(level: 1), .zstd(level: 19), .none])
  func weightsComeBack(bits: Int, compression: Compression) throws {
    var generator = SeededGenerator()
    let seed = generator.seed
    var weights: [Weight] = []
    for dimensions in RoundTripTests.shapes {
      for granularity in RoundTripTests.granularities {
        for isSymmetric in [false, true] {
          let scheme = try #require(
            QuantizationScheme(bits: bits, isSymmetric: isSymmetric, granularity: granularity))
          let shape = try #require(Shape(dimensions))
          weights.append(Weight("w\(weights.count)", shape, scheme, using: &generator))
        }
      }
    }
    try withTemporaryFolder { folder in
      let path = "\(folder)/model.otq"
      let writer = try ContainerWriter(path: path, compression: compression)
      for weight in weights { try weight.write(to: writer) }
      try writer.commit(metadata: [:])
      let container = try Container(path: path)
      try container.verify(threadCount: 3)
      #expect(container.tensors.map(\.name) == weights.map(\.name))
      for weight in weights { try expect(weight, in: container, seed) }
    }
  }

  private func expect(_ weight: Weight, in container: Container, _ seed: UInt64) throws {
    let tensor = try #require(container[weight.name])
    let place: Comment = "\(weight.name) \(weight.shape) \(weight.scheme), seed \(seed)"
    #expect(tensor.shape == weight.shape && tensor.scheme == weight.scheme, place)
    let scales = try container.scales(of: tensor), zeroPoints = try container.zeroPoints(of: tensor)
    #expect(scales == weight.scales, place)
    let middle = UInt8(1 << (weight.scheme.bits - 1))
    #expect(zeroPoints == (weight.scheme.isSymmetric ? scales.map { _ in middle } : weight.zeroPoints), place)
    let tiles = 0..<tensor.layout.rowTileCount
    #expect(try container.codes(of: tensor, rowTiles: tiles) == Array(weight.tiles.joined()), place)
    #expect(
      try container.dequantized(tensor, rowTiles: tiles, scales: scales, zeroPoints: zeroPoints)
        == weight.values, place)
  }

  /// A weight of several chunks: `[200, 4096]` is 13 row tiles, 4 to a chunk.
  /// The packed form by enumeration, as `TileLayout` describes it, in several chunks.
  @Test(arguments: [2, 4, 5, 6, 8], [Compression.standard, .none])
  func packedCodesAreThoseOfTheLayout(bits: Int, compression: Compression) throws {
    var generator = SeededGenerator()
    let seed = generator.seed
    let scheme = try #require(QuantizationScheme(bits: bits, isSymmetric: false, granularity: .perChannel))
    let weights = try ["a", "b", "c"].enumerated().map { index, name in
      Weight(name, try #require(Shape([300 * index + 17, 1000])), scheme, using: &generator)
    }
    try withTemporaryFolder { folder in
      let path = folder + "/model.otq"
      let writer = try ContainerWriter(path: path, compression: compression)
      for weight in weights { try weight.write(to: writer) }
      try writer.commit(metadata: [:])
      let container = try Container(path: path)
      for threadCount in [1, 3] {
        let packed = try container.packedCodes(
          of: container.tensors, checksMapped: threadCount == 1, threadCount: threadCount)
        for (weight, packed) in zip(weights, packed) {
          #expect(Array(packed.bytes) == weight.tiles.flatMap { pack($0, bits: bits) }, "\(weight.name), seed \(seed)")
        }
      }
    }
  }

  private func pack(_ codes: [UInt8], bits: Int) -> [UInt8] {
    guard bits <= 6 else { return codes }
    var packed: [UInt8] = []
    if bits <= 4 {
      for pair in stride(from: 0, to: codes.count, by: 128) {
        for lane in pair..<pair + 64 { packed.append(codes[lane] + codes[lane + 64] * 16) }
      }
    } else {
      for block in stride(from: 0, to: codes.count, by: 256) {
        for (vector, divisor) in [UInt8(1), 4, 16].enumerated() {
          for lane in block..<block + 64 {
            let high: UInt8 = codes[lane + 192] / divisor % 4
            packed.append(codes[lane + vector * 64] + high * 64)
          }
        }
      }
    }
    return packed
  }

  @Test(arguments: [Compression.standard, .none])
  func partsOfLargeWeightsComeBack(compression: Compression) throws {
    var generator = SeededGenerator()
    let scheme = try #require(QuantizationScheme(bits: 6, isSymmetric: true, granularity: .perChannel))
    let weight = Weight("w", try #require(Shape([200, 4096])), scheme, using: &generator)
    try withTemporaryFolder { folder in
      let path = "\(folder)/model.otq"
      let writer = try ContainerWriter(path: path, compression: compression)
      try weight.write(to: writer)
      #expect(writer.extentCount == 5)
      try writer.commit(metadata: [:])
      let container = try Container(path: path)
      let tensor = try #require(container["w"])
      let tiles = weight.tiles
      for part in [0..<1, 3..<5, 4..<8, 7..<13, 12..<13, 0..<13] {
        #expect(try container.codes(of: tensor, rowTiles: part) == Array(tiles[part].joined()), "\(part)")
      }
      let mapped = container.mappedPackedCodes(of: tensor)
      let packedByteCount = 13 * 16 * 4096 / 4 * 3
      #expect(mapped?.count == (compression == .none ? packedByteCount : nil))
    }
  }

  @Test func bytesDependOnNothingButWhatIsAppended() throws {
    let scheme = try #require(QuantizationScheme(bits: 8, isSymmetric: false, granularity: .perGroup(size: 64)))
    let shape = try #require(Shape([150, 3000]))
    func file(threadCount: Int) throws -> Data {
      try withTemporaryFolder { folder in
        var generator = SeededGenerator(seed: 5)
        let writer = try ContainerWriter(path: "\(folder)/model.otq")
        try Weight("w", shape, scheme, using: &generator).write(to: writer, threadCount: threadCount)
        try writer.commit(metadata: [:])
        return try Data(contentsOf: URL(fileURLWithPath: "\(folder)/model.otq"))
      }
    }
    let expected = try file(threadCount: 1)
    for threadCount in [2, 7, 64] { #expect(try file(threadCount: threadCount) == expected) }
  }

  @Test(arguments: ElementType.allCases, [Compression.standard, .none])
  func plainTensorsComeBack(type: ElementType, compression: Compression) throws {
    var generator = SeededGenerator()
    try withTemporaryFolder { folder in
      let path = "\(folder)/model.otq"
      let writer = try ContainerWriter(path: path, compression: compression)
      var written: [String: [UInt8]] = [:]
      for dimensions in [[8], [0], [2, 0, 3], [4, 3, 4], [80, 1024]] {
        let shape = try #require(Shape(dimensions))
        let bytes = (0..<shape.elementCount * type.bitWidth / 8).map { _ in UInt8.random(in: 0...9, using: &generator) }
        written["\(shape)"] = bytes
        let values = try bytes.withUnsafeBytes { try writer.append(plane: $0) }
        writer.addPlain(name: "\(shape)", shape: shape, elementType: type, values: values, source: nil)
      }
      try writer.commit(metadata: [:])
      let container = try Container(path: path)
      try container.verify(threadCount: 2)
      for tensor in container.tensors {
        #expect(tensor.content == .plain(type))
        #expect(try container.values(of: tensor) == written[tensor.name], "seed \(generator.seed)")
        var pieces: [UInt8] = []
        try container.forEachExtent(of: tensor) { pieces += $0 }
        #expect(pieces == written[tensor.name])
      }
    }
  }

  @Test func scalarsAndLargeAttachmentsComeBack() throws {
    let text = [UInt8]((0..<600_000).map { UInt8($0 / 3 % 251) })
    try withTemporaryFolder { folder in
      let path = "\(folder)/model.otq"
      let writer = try ContainerWriter(path: path)
      let scalar = try [Float(2.5)].withUnsafeBytes { try writer.append(plane: $0) }
      writer.addPlain(name: "s", shape: try #require(Shape([])), elementType: .f32, values: scalar, source: nil)
      try text.withUnsafeBytes { try writer.addAttachment(name: "1_Pooling/config.json", $0) }
      try writer.addAttachment(name: "e", UnsafeRawBufferPointer(start: nil, count: 0))
      try writer.commit(metadata: ["family": .null])
      let container = try Container(path: path)
      #expect(try container.floats(of: try #require(container["s"])) == [2.5])
      #expect(container.attachmentNames == ["1_Pooling/config.json", "e"])
      #expect(try container.attachment("1_Pooling/config.json") == text)
      #expect(try container.attachment("e") == [])
      #expect(container.metadata["family"] == .null)
    }
  }

  @Test func writerRefusesTwoTensorsOfOneName() throws {
    try withTemporaryFolder { folder in
      let writer = try ContainerWriter(path: "\(folder)/model.otq")
      let shape = try #require(Shape([0]))
      for _ in 0..<2 { writer.addPlain(name: "a", shape: shape, elementType: .f32, values: 0..<0, source: nil) }
      let refusal = #expect(throws: Refusal.self) { try writer.commit(metadata: [:]) }
      #expect(refusal?.rule == "otq-duplicate-name")
    }
  }

  /// A name that the reader refuses is in no finished file.
  @Test(arguments: ["", "a\n", "a\u{7F}", "a\u{85}", String(repeating: "a", count: 4097)])
  func writerRefusesNamesThatCannotBeRead(_ name: String) throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/model.otq"
      let writer = try ContainerWriter(path: path)
      writer.addPlain(
        name: name, shape: try #require(Shape([0])), elementType: .f32, values: 0..<0, source: nil)
      let refusal = #expect(throws: Refusal.self) { try writer.commit(metadata: [:]) }
      #expect(refusal?.rule == "otq-tensor")
      #expect(FileIdentity(path: path) == nil)
    }
  }

  /// A rounding is named where it is not nearest, and a shape of the source where it is another.
  @Test func roundingsAndShapesOfTheSourceComeBack() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/model.otq"
      let writer = try ContainerWriter(path: path)
      let scheme = try #require(QuantizationScheme(bits: 6, isSymmetric: true, granularity: .perTensor))
      let shape = try #require(Shape([0, 16])), other = try #require(Shape([16, 3]))
      for (name, rounding) in [("a", RoundingKind.nearest), ("b", try #require(RoundingKind("gptq-2")))] {
        try writer.addQuantized(
          name: name, shape: shape, scheme: scheme, codes: 0..<0, scales: [1], zeroPoints: [], rounding: rounding,
          source: .init(name: "s", elementType: .f16, shape: name == "a" ? nil : other), error: nil)
      }
      try writer.commit(metadata: [:])
      let container = try Container(path: path)
      #expect(container["a"]?.rounding == .nearest && container["b"]?.rounding.name == "gptq-2")
      #expect(container["a"]?.source?.shape == nil && container["b"]?.source?.shape == other)
      let entries = try #require(container.metadata["tensors"]?.array)
      #expect(entries[0]["rounding"] == nil && entries[0]["source"]?["shape"] == nil)
    }
    #expect(RoundingKind("") == nil && RoundingKind("Nearest") == nil && RoundingKind("a b") == nil)
  }

  /// What approves a file reads all of it before it has its name, and adds to its metadata; what refuses it leaves none.
  @Test func aFileIsApprovedBeforeItAppears() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/model.otq"
      func writer() throws -> ContainerWriter {
        let writer = try ContainerWriter(path: path)
        let shape = try #require(Shape([3]))
        let values = try [Float](arrayLiteral: 1, -2, 3).withUnsafeBytes { try writer.append(plane: $0) }
        writer.addPlain(name: "a", shape: shape, elementType: .f32, values: values, source: nil)
        return writer
      }
      func floats(_ container: Container) throws -> [Float] { try container.floats(of: #require(container["a"])) }
      #expect(throws: Refusal("no", "no")) {
        try writer().commit(metadata: [:]) { _ in throw Refusal("no", "no") }
      }
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
      // Longer than what stands behind the data, and shorter.
      for text in [String(repeating: "long", count: 4000), "b"] {
        try writer().commit(metadata: ["family": .string("f")]) { path in
          let container = try Container(MappedFile(path: path))
          #expect(try floats(container) == [1, -2, 3] && container.metadata["family"]?.string == "f")
          #expect(FileIdentity(path: folder + "/model.otq") == nil)
          return ["approval": .string(text)]
        }
        let container = try Container(path: path)
        #expect(try floats(container) == [1, -2, 3] && container.metadata["family"]?.string == "f")
        #expect(container.metadata["approval"]?.string == text)
        try container.verify(threadCount: 1)
        try FileManager.default.removeItem(atPath: path)
      }
    }
  }

  @Test func nothingAppearsWithoutCommit() throws {
    try withTemporaryFolder { folder in
      do {
        let writer = try ContainerWriter(path: "\(folder)/model.otq")
        _ = try [UInt8](repeating: 1, count: 1000).withUnsafeBytes { try writer.append(plane: $0) }
      }
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
    }
  }

  @Test func rowsThatNoReaderAcceptsAreRefused() throws {
    try withTemporaryFolder { folder in
      let writer = try ContainerWriter(path: "\(folder)/model.otq", compression: .none)
      let chunk = try writer.encoder.encode(codes: [UInt8](repeating: 0, count: 1 << 26 | 1 << 10), bits: 8)
      let refusal = #expect(throws: Refusal.self) { try writer.append(chunk) }
      #expect(refusal?.rule == "otq-row-too-long")
    }
  }

  @Test func anExistingFileNeedsForce() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/model.otq"
      try ContainerWriter(path: path).commit(metadata: [:])
      let refusal = #expect(throws: Refusal.self) { try ContainerWriter(path: path) }
      #expect(refusal?.rule == "output-exists")
      try ContainerWriter(path: path, force: true).commit(metadata: ["family": .null])
      #expect(try Container(path: path).metadata["family"] == .null)
    }
  }
}
