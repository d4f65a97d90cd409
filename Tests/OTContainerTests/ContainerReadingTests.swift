import Foundation
import OTContainer
import OTTensor
import Testing
import _OTTestSupport

@Suite struct ContainerReadingTests {
  /// Reads everything there is to read.
  static func readAll(_ container: Container) throws -> [[Float]] {
    try container.verify(threadCount: 1)
    return try container.tensors.map { tensor in
      guard let resolved = container[tensor.name] else { return [] }
      guard resolved.scheme != nil else { return try container.values(of: resolved).map(Float.init) }
      return try container.dequantized(
        resolved, rowTiles: 0..<resolved.layout.rowTileCount, scales: container.scales(of: resolved),
        zeroPoints: container.zeroPoints(of: resolved))
    }
  }

  @Test func handBuiltFileReadsAsSpecified() throws {
    try withContainer(TinyWeight.file.bytes) { container in
      #expect(try Self.readAll(container) == [TinyWeight.values])
      let tensor = try #require(container["w"])
      let mapped = try #require(container.mappedPackedCodes(of: tensor))
      #expect(Array(mapped) == TinyWeight.tile)
      #expect(container.storedByteCount(of: tensor) == 1024 + 8 + 2)
    }
  }

  @Test func unknownOptionalFeaturesAndMembersAreIgnored() throws {
    var file = TinyWeight.file
    file.optionalFeatures = 1 << 63
    file.metadata = "{\"later\":{\"x\":1},\"tensors\":[\(TinyWeight.entry)]}"
    let values = try withContainer(file.bytes, Self.readAll)
    #expect(values == [TinyWeight.values])
  }

  static func refusal(_ bytes: [UInt8]) -> Refusal? {
    do {
      _ = try withContainer(bytes, readAll)
      return nil
    } catch { return error as? Refusal }
  }

  struct Fault: Sendable, CustomTestStringConvertible {
    let rule: String
    let name: String
    let make: @Sendable () -> [UInt8]
    var testDescription: String { "\(rule): \(name)" }

    init(_ rule: String, _ name: String, _ change: @escaping @Sendable (inout HandBuiltFile) -> Void) {
      self.rule = rule
      self.name = name
      make = {
        var file = TinyWeight.file
        change(&file)
        return file.bytes
      }
    }

    init(_ rule: String, entry old: String, becomes new: String) {
      self.init(rule, new) { $0.metadata = $0.metadata.replacingOccurrences(of: old, with: new) }
    }

    init(_ rule: String, bytes name: String, _ change: @escaping @Sendable (inout [UInt8]) -> Void) {
      self.rule = rule
      self.name = name
      make = {
        var bytes = TinyWeight.file.bytes
        change(&bytes)
        return bytes
      }
    }
  }

  static func scales(_ second: Float) -> HandBuiltFile.Extent {
    .init(little(Float(1).bitPattern) + little(second.bitPattern))
  }

  static let faults: [Fault] = [
    // 111
    Fault("otq-magic", bytes: "not the magic") { $0[1] = 0x4E },
    Fault("otq-version", "newer major version") { $0.major = 2 },
    Fault("otq-required-feature", "unknown required feature") { $0.requiredFeatures = 4 },
    // 112
    Fault("otq-header-checksum", bytes: "header damaged") { $0[40] ^= 1 },
    Fault("otq-table-checksum", bytes: "table damaged") { $0[$0.count - 1] ^= 1 },
    Fault("otq-checksum", bytes: "metadata damaged") { bytes in
      let start = bytes.firstIndex(of: UInt8(ascii: "{")) ?? 0
      bytes[start + 3] ^= 1
    },
    Fault("otq-header", "reserved bytes") { $0.headerReserved = 1 },
    // 113
    Fault("otq-truncated", "file size") { $0.fileByteCountLie = 64 },
    Fault("otq-extent", "past the end") { $0.extents[2].declaredByteCount = 1 << 40 },
    Fault("otq-extent", "overlap") { $0.extents[1].declaredOffset = 128 },
    Fault("otq-extent", "misaligned") { $0.extents[1].declaredOffset = 1153 },
    Fault("otq-extent", "offset of 2^63") { $0.extents[1].declaredOffset = Int.max },
    Fault("otq-extent", "raw of another length") { $0.extents[2].decodedByteCount = 3 },
    Fault("otq-extent", "decodes to 2^40") { $0.extents[2].decodedByteCount = 1 << 40 },
    Fault("otq-padding", "padding not zero") { $0.padding = 7 },
    Fault("otq-codec", "unknown codec") { $0.extents[0].codec = 2 },
    // 114
    Fault("otq-tensor", entry: "[2,3]", becomes: "[9223372036854775807,3]"),
    Fault("otq-tensor", entry: "[2,3]", becomes: "[-2,3]"),
    Fault("otq-scheme", entry: "[2,3]", becomes: "[4294967296,3]"),
    Fault("otq-scheme", entry: "[2,3]", becomes: "[6]"),
    Fault("otq-plane", entry: "[2,3]", becomes: "[2,65]"),
    Fault("otq-plane", entry: "[2,3]", becomes: "[17,3]"),
    Fault("otq-plane", entry: "\"codes\":[0,1]", becomes: "\"codes\":[0,4]"),
    Fault("otq-plane", entry: "\"codes\":[0,1]", becomes: "\"codes\":[9223372036854775807,1]"),
    Fault("otq-plane", entry: "\"codes\":[0,1]", becomes: "\"codes\":[-1,1]"),
    Fault("otq-plane", entry: "\"scales\":[1,1]", becomes: "\"scales\":[1,2]"),
    Fault("otq-plane", entry: ",\"zeroPoints\":[2,1]", becomes: ""),
    // 118
    Fault("otq-checksum", "chunk checksum") { $0.extents[0].checksum = 1 },
    // 119
    Fault("otq-scheme", entry: "\"bits\":8", becomes: "\"bits\":9"),
    Fault("otq-scheme", entry: "\"bits\":8", becomes: "\"bits\":1"),
    Fault("otq-tensor", entry: "\"channel\"", becomes: "\"row\""),
    Fault("otq-scheme", entry: "\"channel\"", becomes: "\"group\",\"groupSize\":17"),
    Fault("otq-scheme", entry: "\"rowTilesPerChunk\":1", becomes: "\"rowTilesPerChunk\":0"),
    Fault("otq-plane", entry: "\"bits\":8", becomes: "\"bits\":6"),
    // 120
    Fault("otq-code", "padding code not 0") { $0.extents[0] = .init(TinyWeight.tile.dropLast() + [1]) },
    // 121
    Fault("otq-scale", "scale NaN") { $0.extents[1] = scales(.nan) },
    Fault("otq-scale", "scale 0") { $0.extents[1] = scales(0) },
    Fault("otq-scale", "scale negative") { $0.extents[1] = scales(-1) },
    Fault("otq-scale", "scale infinite") { $0.extents[1] = scales(.infinity) },
    // 122
    Fault("otq-duplicate-name", "two tensors of one name") {
      $0.metadata = "{\"tensors\":[\(TinyWeight.entry),\(TinyWeight.entry)]}"
    },
    Fault("otq-alias", "alias of nothing") {
      $0.metadata = "{\"tensors\":[\(TinyWeight.entry),{\"name\":\"a\",\"shape\":[2,3],\"alias\":\"b\"}]}"
    },
    Fault("otq-alias", "alias of itself") {
      $0.metadata = "{\"tensors\":[\(TinyWeight.entry),{\"name\":\"a\",\"shape\":[2,3],\"alias\":\"a\"}]}"
    },
    Fault("otq-alias", "alias of another shape") {
      $0.metadata = "{\"tensors\":[\(TinyWeight.entry),{\"name\":\"a\",\"shape\":[3,2],\"alias\":\"w\"}]}"
    },
    Fault("json-duplicate-key", "member twice") { $0.metadata = "{\"tensors\":[],\"tensors\":[]}" },
    Fault("json-depth", "nesting bomb") { $0.metadata = String(repeating: "[", count: 100_000) },
    Fault("otq-metadata", "no tensors") { $0.metadata = "{}" },
    Fault("otq-attachment", "attachment past the table") {
      $0.metadata = "{\"tensors\":[],\"attachments\":[{\"name\":\"a\",\"extents\":[0,9]}]}"
    },
  ]

  @Test(arguments: faults) func refuses(_ fault: Fault) {
    let refusal = Self.refusal(fault.make())
    #expect(refusal?.rule == fault.rule, "\(refusal.map(\.description) ?? "read without complaint")")
    #expect(refusal?.file?.hasSuffix(".otq") == true)
  }

  @Test func symmetricCodesHaveNoZero() {
    var file = TinyWeight.file
    file.extents.removeLast()
    file.metadata = "{\"tensors\":[\(TinyWeight.entry)]}"
      .replacingOccurrences(of: "false", with: "true").replacingOccurrences(of: ",\"zeroPoints\":[2,1]", with: "")
    // Code [0, 0] is 0.
    #expect(Self.refusal(file.bytes)?.rule == "otq-code")
  }

  @Test func codesBeyondTheirBitsAreRefused() {
    var file = TinyWeight.file
    file.metadata = file.metadata.replacingOccurrences(of: "\"bits\":8", with: "\"bits\":7")
    #expect(Self.refusal(file.bytes)?.rule == "otq-zero-point")
    file.extents[2] = .init([1, 1])
    #expect(Self.refusal(file.bytes)?.rule == "otq-code")
  }

  @Test func everyTruncationIsRefused() {
    let bytes = TinyWeight.file.bytes
    for count in 0..<bytes.count {
      #expect(Self.refusal(Array(bytes[..<count])) != nil, "the first \(count) bytes were read")
    }
  }

  @Test func everyBitFlipIsRefused() {
    let bytes = TinyWeight.file.bytes
    for index in bytes.indices {
      for bit in 0..<8 {
        // Bytes 10 and 11 are the minor version, 24 to 31 optional features:
        // the header's checksum covers them too.
        var flipped = bytes
        flipped[index] ^= 1 << UInt8(bit)
        #expect(Self.refusal(flipped) != nil, "bit \(bit) of byte \(index)")
      }
    }
  }

  @Test func partialFilesAreNamed() throws {
    try withTemporaryFolder { folder in
      let path = folder + "/.out.otq.123.partial"
      try Data(TinyWeight.file.bytes).write(to: URL(fileURLWithPath: path))
      let error = #expect(throws: Refusal.self) { try Container(path: path) }
      #expect(error?.rule == "otq-partial")
    }
  }
}
