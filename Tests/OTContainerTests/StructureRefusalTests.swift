import OTContainer
import OTFoundation
import Testing

/// Header, table, extents (otq-header, otq-table, otq-extent, …).
struct StructureRefusalTests {
  static let header: [RefusalCase] = [
    .init("magic", "otq-magic", changing: { $0[1] = 0x4E }),
    .init("empty file", "otq-magic") { [] },
    .init("only the magic", "otq-truncated") { Array(HandmadeFile.small.bytes[..<8]) },
    .init("major version 0", "otq-version", changing: { $0.put(UInt16(0), at: 8) }),
    .init("major version 2", "otq-version", changing: { $0.put(UInt16(2), at: 8) }),
    .init("header length", "otq-header", changing: { $0.put(UInt32(192), at: 12) }),
    .init("reserved byte", "otq-header", changing: { $0[123] = 1 }),
    .init("required feature", "otq-required-feature", changing: { $0.put(UInt64(1) << 63, at: 16) }),
    .init("file length beyond Int", "otq-header", changing: { $0.put(UInt64.max, at: 32) }),
    .init("file length", "otq-truncated", changing: { $0.put(UInt64($0.count + 64), at: 32) }),
    .init("bytes behind the file", "otq-truncated") { HandmadeFile.small.bytes + [0] },
    .init("header checksum", "otq-header-checksum") {
      var bytes = HandmadeFile.small.bytes
      bytes[124] ^= 1
      return bytes
    },
    .init("metadata checksum", "otq-checksum") {
      var bytes = HandmadeFile.small.bytes
      bytes[68] ^= 1
      HandmadeFile.seal(&bytes, [.header])
      return bytes
    },
    .init("table checksum", "otq-table-checksum") {
      var bytes = HandmadeFile.small.bytes
      bytes[88] ^= 1
      HandmadeFile.seal(&bytes, [.header])
      return bytes
    },
    .init("metadata codec", "otq-codec", changing: { $0.put(UInt32(2), at: 64) }),
    .init("metadata offset", "otq-table", changing: { $0.put(UInt64($0.count(at: 40) + 64), at: 40) }),
    .init("metadata length past the table", "otq-table", changing: { $0.put(UInt64($0.count), at: 48) }),
    .init("metadata length that wraps", "otq-table", changing: { $0.put(UInt64(Int.max), at: 48) }),
    .init("metadata decoded length", "otq-metadata", changing: { $0.put(UInt64(1) << 28 + 1, at: 56) }),
    .init(
      "metadata expands impossibly", "otq-metadata",
      changing: {
        $0.put(UInt32(1), at: 64)
        $0.put(UInt64(1) << 28, at: 56)
      }),
    .init("metadata of no bytes", "otq-metadata") { HandmadeFile([], "").bytes },
    .init("metadata no frame", "otq-frame", changing: { $0.put(UInt32(1), at: 64) }),
    .init("table offset", "otq-table", changing: { $0.put(UInt64($0.count(at: 72) - 64), at: 72) }),
    .init("table in the header", "otq-table", changing: { $0.put(UInt64(64), at: 72) }),
    .init("table length no multiple", "otq-table", changing: { $0.put(UInt64($0.count(at: 80) - 1), at: 80) }),
    .init("table length that wraps", "otq-table", changing: { $0.put(UInt64(Int.max - 31), at: 80) }),
  ]

  @Test(arguments: header) func headerIsRefused(_ file: RefusalCase) throws { try file.expectAtOpening() }

  @Test func aNewerVersionIsNamedWithOurs() throws {
    var bytes = HandmadeFile.small.bytes
    bytes.put(UInt16(7), at: 8)
    let refusal = #expect(throws: Refusal.self) { try open(bytes) }
    #expect(refusal?.message.contains("7") == true && refusal?.message.contains("1") == true)
  }

  /// A change of the field at `offset` of the table's entry `index`.
  private static func entry(
    _ name: String, _ rule: String, _ index: Int, _ offset: Int, _ value: @escaping @Sendable (Int) -> UInt64
  ) -> RefusalCase {
    .init(
      name, rule,
      changing: {
        let place = $0.count(at: 72) + index * 32 + offset
        $0.put(value($0.count(at: place)), at: place)
      })
  }

  static let table: [RefusalCase] = [
    entry("first extent in the header", "otq-extent", 0, 0) { _ in 64 },
    entry("overlap", "otq-extent", 1, 0) { UInt64($0 - 64) },
    entry("gap", "otq-extent", 1, 0) { UInt64($0 + 64) },
    entry("misaligned", "otq-extent", 1, 0) { UInt64($0 + 1) },
    entry("offset beyond Int", "otq-extent", 1, 0) { _ in .max },
    entry("empty extent", "otq-extent", 0, 8) { _ in 0 },
    entry("past the metadata", "otq-extent", 3, 8) { _ in 1 << 20 },
    entry("length that wraps", "otq-extent", 3, 8) { _ in UInt64(Int.max) },
    entry("length beyond Int", "otq-extent", 3, 8) { _ in .max },
    entry("raw and decoded to more", "otq-extent", 0, 16) { _ in 3 },
    entry("decoded to nothing", "otq-extent", 0, 16) { _ in 0 },
    .init("unknown codec", "otq-codec", changing: { $0.put(UInt32(2), at: $0.count(at: 72) + 24) }),
    .init(
      "expands impossibly", "otq-extent",
      changing: {
        let entry = $0.count(at: 72)
        $0.put(UInt64(1) << 26, at: entry + 16)
        $0.put(UInt32(1), at: entry + 24)
      }),
    .init("padding behind an extent", "otq-padding", changing: { $0[128 + 63] = 1 }),
    .init("padding behind the last extent", "otq-padding", changing: { $0[$0.count(at: 40) - 1] = 1 }),
    .init("padding behind the metadata", "otq-padding", changing: { $0[$0.count(at: 72) - 1] = 1 }),
    .init("an extent that nothing uses", "otq-extent-use") {
      var file = HandmadeFile.small
      file.extents.append(.init([1]))
      return file.bytes
    },
    .init(
      "an extent used twice", "otq-extent-use", "\"byteCount\":2,\"extents\":[0,1]",
      "\"byteCount\":8,\"extents\":[3,1]"),
  ]

  @Test(arguments: table) func tableIsRefused(_ file: RefusalCase) throws { try file.expectAtOpening() }

  @Test func anUnfinishedFileIsRefused() throws {
    let bytes = HandmadeFile.small.bytes
    let refusal = #expect(throws: Refusal.self) { try open(bytes, name: ".model.otq.12.partial") }
    #expect(refusal?.rule == "otq-partial")
  }
}
