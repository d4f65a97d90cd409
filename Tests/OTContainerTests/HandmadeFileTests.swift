import Foundation
import OTContainer
import OTJSON
import OTTensor
import Testing
import _OTTestSupport

/// Files whose bytes were computed by hand, read and written.
struct HandmadeFileTests {
  /// The smallest file, byte for byte; its checksums were computed elsewhere.
  static let empty: [UInt8] = [
    0x89, 0x4F, 0x54, 0x51, 0x0D, 0x0A, 0x1A, 0x0A, 1, 0, 0, 0, 0x80, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0xC0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0,
    0x1F, 0, 0, 0, 0, 0, 0, 0, 0x1F, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0x26, 0x48, 0xB7, 0x2C, 0xC0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xC8, 0x88, 0x92, 0x86,
    0x7B, 0x22, 0x61, 0x74, 0x74, 0x61, 0x63, 0x68, 0x6D, 0x65, 0x6E, 0x74, 0x73, 0x22, 0x3A, 0x5B,
    0x5D, 0x2C, 0x22, 0x74, 0x65, 0x6E, 0x73, 0x6F, 0x72, 0x73, 0x22, 0x3A, 0x5B, 0x5D, 0x7D, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  ]

  static func written(_ body: (ContainerWriter) throws -> Void) throws -> [UInt8] {
    try withTemporaryFolder { folder in
      let path = "\(folder)/model.otq"
      try body(ContainerWriter(path: path, compression: .none))
      return Array(try Data(contentsOf: URL(fileURLWithPath: path)))
    }
  }

  @Test func emptyFileIsWrittenAsComputed() throws {
    #expect(try HandmadeFileTests.written { try $0.commit(metadata: [:]) } == HandmadeFileTests.empty)
  }

  @Test func emptyFileIsRead() throws {
    let container = try open(HandmadeFileTests.empty)
    #expect(container.tensors.isEmpty && container.attachmentNames.isEmpty)
    try container.verify(threadCount: 2)
  }

  @Test func smallFileIsRead() throws {
    let container = try open(HandmadeFile.small.bytes)
    try container.verify(threadCount: 2)
    #expect(container.metadata["producer"] == .string("by hand"))
    #expect(container.tensors.map(\.name) == ["w", "v", "b"])
    let weight = try #require(container["w"])
    #expect(weight.shape == Shape([2, 3]))
    #expect(weight.scheme == QuantizationScheme(bits: 6, isSymmetric: true, granularity: .perChannel))
    #expect(weight.source == StoredTensor.Source(name: "w0", elementType: .f16))
    #expect(weight.error == QuantizationError(sqnrDecibels: 40.5, maximumInSteps: 0.5))
    #expect(container["v"] == weight)
    #expect(container["x"] == nil)
    #expect(try container.codes(of: weight, rowTiles: 0..<1) == HandmadeFile.smallTile)
    #expect(try container.codes(of: weight, rowTiles: 0..<0).isEmpty)
    let scales = try container.scales(of: weight), zeroPoints = try container.zeroPoints(of: weight)
    #expect(scales == [0.5, 2] && zeroPoints == [32, 32])
    let values = try container.dequantized(weight, rowTiles: 0..<1, scales: scales, zeroPoints: zeroPoints)
    #expect(values == [-15.5, 0, 15.5, 2, -2, 16])
    #expect(container.mappedPackedCodes(of: weight) == nil)
    let bias = try #require(container["b"])
    #expect(try container.floats(of: bias) == [1, -1])
    #expect(try container.attachment("config.json") == Array("{}".utf8))
    #expect(try container.attachment("other.json") == nil)
    #expect(container.storedByteCount(of: weight) == 1032)
    #expect(container.storedByteCount(of: bias) == 8)
  }

  /// Packed by arithmetic on the digits of the fourth vector.
  static var packedTile: [UInt8] {
    let tile = HandmadeFile.smallTile
    return stride(from: 0, to: 1024, by: 256).flatMap { start in
      (0..<192).map { index in
        let digits = [1, 4, 16].map { Int(tile[start + 192 + index % 64]) / $0 % 4 }
        return UInt8(Int(tile[start + index]) + 64 * digits[index / 64])
      }
    }
  }

  @Test func smallFileIsWrittenAsComputed() throws {
    let metadata = HandmadeFile.smallMetadata.replacingOccurrences(of: "\"bytes\"", with: "\"packed\"")
    // The order of the writer: the converter's members, attachments, tensors.
    let object = try #require(
      try Array(metadata.utf8).withUnsafeBytes {
        try JSONValue.parse($0, limits: .configuration, file: "")
      }.object)
    var expected = HandmadeFile(HandmadeFile.small.extents, JSONValue.object(object).text())
    expected.extents[1] = .init(HandmadeFileTests.packedTile)
    let bytes = try HandmadeFileTests.written { writer in
      try Array("{}".utf8).withUnsafeBytes { try writer.addAttachment(name: "config.json", $0) }
      let shape = try #require(Shape([2, 3]))
      let scheme = try #require(QuantizationScheme(bits: 6, isSymmetric: true, granularity: .perChannel))
      try writer.append(writer.encoder.encode(codes: HandmadeFile.smallTile, bits: 6))
      try writer.addQuantized(
        name: "w", shape: shape, scheme: scheme, codes: 1..<2, scales: [0.5, 2], zeroPoints: [],
        source: .init(name: "w0", elementType: .f16), error: .init(sqnrDecibels: 40.5, maximumInSteps: 0.5))
      writer.addAlias(name: "v", of: "w", shape: shape, source: nil)
      let values = try [Float(1), -1].withUnsafeBytes { try writer.append(plane: $0) }
      writer.addPlain(name: "b", shape: try #require(Shape([2])), elementType: .f32, values: values, source: nil)
      try writer.commit(metadata: ["producer": .string("by hand")])
    }
    #expect(bytes == expected.bytes)
    let container = try open(bytes)
    let weight = try #require(container["w"])
    #expect(try container.codes(of: weight, rowTiles: 0..<1) == HandmadeFile.smallTile)
    let mapped = try #require(container.mappedPackedCodes(of: weight))
    #expect(Array(mapped) == HandmadeFileTests.packedTile)
    #expect(UInt(bitPattern: mapped.baseAddress) % 64 == 0)
  }

  @Test func unusedFieldsAndUnknownMembersAreIgnored() throws {
    var file = HandmadeFile.small("\"producer\"", "\"future\":[{}],\"producer\"").bytes
    file.put(UInt16(9), at: 10)
    file.put(UInt64.max, at: 24)
    HandmadeFile.seal(&file)
    let expected = try contents(open(HandmadeFile.small.bytes)).filter { $0.key != "" }
    #expect(try contents(open(file)).filter { $0.key != "" } == expected)
  }

  @Test func checksumIsTheDocumentsOne() {
    #expect(HandmadeFile.bitwiseCRC(Array("123456789".utf8)) == 0xCBF4_3926)
  }
}
