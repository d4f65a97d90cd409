import Foundation
import OTContainer
import OTJSON
import OTTensor
import Testing
import _OTTestSupport

@Suite struct ContainerRoundTripTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let scheme: QuantizationScheme
    let rows: Int
    let columns: Int
    let compression: Compression
    var testDescription: String { "\(scheme) [\(rows), \(columns)] \(compression)" }
  }

  static let cases: [Case] = {
    let shapes = [(1, 1), (16, 64), (17, 65), (33, 100), (700, 130)]
    let granularities: [QuantizationScheme.Granularity] = [.perTensor, .perChannel, .perGroup(size: 48)]
    var cases: [Case] = []
    for bits in 2...8 {
      for isSymmetric in [false, true] {
        for (index, granularity) in granularities.enumerated() {
          let (rows, columns) = shapes[(bits + index) % shapes.count]
          guard let scheme = QuantizationScheme(bits: bits, isSymmetric: isSymmetric, granularity: granularity)
          else { continue }
          for compression in [Compression.standard, .none] {
            cases.append(Case(scheme: scheme, rows: rows, columns: columns, compression: compression))
          }
        }
      }
    }
    return cases
  }()

  @Test(arguments: cases) func weightsComeBack(_ test: Case) throws {
    var random = SeededGenerator(seed: UInt64(test.rows * 1000 + test.columns + test.scheme.bits))
    let layout = TileLayout(rowCount: test.rows, columnCount: test.columns)
    let codes = (0..<test.rows).map { _ in
      (0..<test.columns).map { _ in
        UInt8.random(in: UInt8(test.scheme.minimumCode)...UInt8(test.scheme.maximumCode), using: &random)
      }
    }
    var tiles = [UInt8](repeating: 0, count: layout.byteCount)
    for row in 0..<test.rows {
      for column in 0..<test.columns {
        // As the specification writes it.
        let padded = (test.columns + 63) / 64 * 64
        tiles[row / 16 * 16 * padded + column / 4 * 64 + row % 16 * 4 + column % 4] = codes[row][column]
      }
    }
    let groups = if case .perGroup(let size) = test.scheme.granularity { (test.columns + size - 1) / size } else { 1 }
    let stepCount = test.scheme.granularity == .perTensor ? 1 : test.rows * groups
    let scales = (0..<stepCount).map { _ in Float.random(in: 0.01...2, using: &random) }
    let zeroPoints =
      test.scheme.isSymmetric
      ? [] : (0..<stepCount).map { _ in UInt8.random(in: 0...UInt8(test.scheme.maximumCode), using: &random) }

    try withTemporaryFolder { folder in
      let shape = try #require(Shape([test.rows, test.columns]))
      var files: [[UInt8]] = []
      for name in ["a.otq", "b.otq"] {
        let writer = try ContainerWriter(path: folder + "/" + name, compression: test.compression)
        let step = ChunkEncoder.rowTilesPerChunk(layout)
        for first in stride(from: 0, to: layout.rowTileCount, by: step) {
          let part = tiles[
            first * layout.rowTileByteCount..<min(first + step, layout.rowTileCount) * layout.rowTileByteCount]
          try writer.append(writer.encoder.encode(codes: Array(part), bits: test.scheme.bits))
        }
        try writer.addQuantized(
          name: "w", shape: shape, scheme: test.scheme, codes: 0..<writer.extentCount, scales: scales,
          zeroPoints: zeroPoints, source: .init(name: "w", elementType: .f16),
          error: QuantizationError(sqnrDecibels: 30.5, maximumInSteps: 0.5))
        writer.addAlias(name: "tied", of: "w", shape: shape, source: nil)
        try Array("{}".utf8).withUnsafeBytes { try writer.addAttachment(name: "config.json", $0) }
        try writer.commit(metadata: ["producer": .string("test")])
        files.append(Array(try Data(contentsOf: URL(fileURLWithPath: folder + "/" + name))))
      }
      #expect(files[0] == files[1])

      let container = try Container(path: folder + "/a.otq")
      try container.verify(threadCount: 2)
      let tensor = try #require(container["tied"])
      #expect(tensor.name == "w" && tensor.scheme == test.scheme && tensor.error?.sqnrDecibels == 30.5)
      #expect(try container.codes(of: tensor, rowTiles: 0..<layout.rowTileCount) == tiles)
      #expect(try container.attachment("config.json") == Array("{}".utf8))
      #expect(try container.attachment("other") == nil)
      #expect((container.mappedPackedCodes(of: tensor) != nil) == (test.compression == .none))
      let values = try container.dequantized(
        tensor, rowTiles: 0..<layout.rowTileCount, scales: container.scales(of: tensor),
        zeroPoints: container.zeroPoints(of: tensor))
      for row in 0..<test.rows {
        for column in 0..<test.columns {
          let step: Int =
            switch test.scheme.granularity {
            case .perTensor: 0
            case .perChannel: row
            case .perGroup(let size): row * groups + column / size
            }
          let zero = test.scheme.isSymmetric ? 1 << (test.scheme.bits - 1) : Int(zeroPoints[step])
          #expect(values[row * test.columns + column] == scales[step] * Float(Int(codes[row][column]) - zero))
        }
      }
    }
  }

  @Test func writerMakesTheHandBuiltFile() throws {
    try withTemporaryFolder { folder in
      let writer = try ContainerWriter(path: folder + "/w.otq", compression: .none)
      let scheme = try #require(QuantizationScheme(bits: 8, isSymmetric: false, granularity: .perChannel))
      try writer.append(writer.encoder.encode(codes: TinyWeight.tile, bits: 8))
      try writer.addQuantized(
        name: "w", shape: try #require(Shape([2, 3])), scheme: scheme, codes: 0..<1, scales: TinyWeight.scales,
        zeroPoints: TinyWeight.zeroPoints, source: nil, error: nil)
      try writer.commit(metadata: [:])
      var expected = TinyWeight.file
      // A row of 64 columns takes 1,024 bytes a tile: 256 tiles make a chunk of 256 KiB.
      expected.metadata = "{\"attachments\":[],\"tensors\":[\(TinyWeight.entry)]}"
        .replacingOccurrences(of: "\"rowTilesPerChunk\":1", with: "\"rowTilesPerChunk\":256")
      #expect(Array(try Data(contentsOf: URL(fileURLWithPath: folder + "/w.otq"))) == expected.bytes)
    }
  }

  @Test func nothingAppearsWithoutCommit() throws {
    try withTemporaryFolder { folder in
      do {
        let writer = try ContainerWriter(path: folder + "/w.otq")
        _ = try [UInt8](repeating: 1, count: 1000).withUnsafeBytes(writer.append(plane:))
      }
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
    }
  }
}
