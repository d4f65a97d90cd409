import OTFoundation

/// The first 128 bytes of a file: `formats/otq.md`, section "Header".
struct ContainerHeader {
  /// Metadata or table: where it lies and what its checksum is.
  struct Section {
    var byteOffset = 0
    var storedByteCount = 0
    var checksum: UInt32 = 0
  }

  var fileByteCount = 0
  var metadata = Section()
  var metadataDecodedByteCount = 0
  var metadataCodec = Extent.Codec.raw
  var table = Section()

  init() {}

  var encoded: [UInt8] {
    var bytes = ContainerFormat.magic
    bytes.appendLittleEndian(ContainerFormat.majorVersion)
    bytes.appendLittleEndian(ContainerFormat.minorVersion)
    bytes.appendLittleEndian(UInt32(ContainerFormat.headerByteCount))
    bytes.appendLittleEndian(UInt64(0))  // required features
    bytes.appendLittleEndian(UInt64(0))  // optional features
    bytes.appendLittleEndian(UInt64(fileByteCount))
    bytes.appendLittleEndian(UInt64(metadata.byteOffset))
    bytes.appendLittleEndian(UInt64(metadata.storedByteCount))
    bytes.appendLittleEndian(UInt64(metadataDecodedByteCount))
    bytes.appendLittleEndian(metadataCodec.rawValue)
    bytes.appendLittleEndian(metadata.checksum)
    bytes.appendLittleEndian(UInt64(table.byteOffset))
    bytes.appendLittleEndian(UInt64(table.storedByteCount))
    bytes.appendLittleEndian(table.checksum)
    bytes.append(contentsOf: [UInt8](repeating: 0, count: 124 - bytes.count))
    bytes.appendLittleEndian(bytes.withUnsafeBytes { Checksum.crc32($0) })
    return bytes
  }

  /// - Throws: `Refusal` with rule `otq-magic`, `otq-version`, `otq-header`,
  ///   `otq-header-checksum`, `otq-required-feature` or `otq-truncated`.
  init(_ file: MappedFile) throws {
    func refuse(_ rule: String, _ message: String, at offset: Int, _ remedy: String? = nil) -> Refusal {
      Refusal(rule, message, file: file.path, byteOffset: offset, remedy: remedy)
    }
    let bytes = file.bytes
    let magic = ContainerFormat.magic
    guard bytes.count >= magic.count, bytes.prefix(magic.count).elementsEqual(magic) else {
      throw refuse("otq-magic", "is not an .otq file", at: 0)
    }
    guard bytes.count >= ContainerFormat.headerByteCount else {
      throw refuse("otq-truncated", "ends inside the header", at: bytes.count)
    }
    // The version comes before the checksum: a newer header may be laid out otherwise.
    let major = bytes.littleEndian(at: 8, as: UInt16.self)
    guard major == ContainerFormat.majorVersion else {
      throw refuse(
        "otq-version", "has format version \(major), this program reads \(ContainerFormat.majorVersion)", at: 8,
        "use the version of otq that wrote it, or a newer one")
    }
    guard
      bytes.littleEndian(at: 124, as: UInt32.self) == Checksum.crc32(UnsafeRawBufferPointer(rebasing: bytes[..<124]))
    else { throw refuse("otq-header-checksum", "the header is damaged", at: 0) }
    guard bytes.littleEndian(at: 12, as: UInt32.self) == UInt32(ContainerFormat.headerByteCount),
      bytes[92..<124].allSatisfy({ $0 == 0 })
    else { throw refuse("otq-header", "reserved bytes of the header are not zero", at: 12) }
    let unknown = bytes.littleEndian(at: 16, as: UInt64.self) & ~ContainerFormat.knownRequiredFeatures
    guard unknown == 0 else {
      throw refuse(
        "otq-required-feature", "needs features 0x\(String(unknown, radix: 16)) that this program lacks", at: 16,
        "use a newer version of otq")
    }
    func count(_ offset: Int) throws -> Int {
      guard let value = Int(exactly: bytes.littleEndian(at: offset, as: UInt64.self)) else {
        throw refuse("otq-header", "a size of the header does not fit", at: offset)
      }
      return value
    }
    fileByteCount = try count(32)
    guard fileByteCount == bytes.count else {
      throw refuse(
        "otq-truncated", "has \(bytes.count) bytes, the header says \(fileByteCount)", at: 32,
        "copy or convert the file again")
    }
    metadata = Section(
      byteOffset: try count(40), storedByteCount: try count(48), checksum: bytes.littleEndian(at: 68))
    metadataDecodedByteCount = try count(56)
    guard let codec = Extent.Codec(rawValue: bytes.littleEndian(at: 64)) else {
      throw refuse("otq-codec", "metadata has an unknown codec", at: 64)
    }
    metadataCodec = codec
    table = Section(
      byteOffset: try count(72), storedByteCount: try count(80), checksum: bytes.littleEndian(at: 88))
  }
}
