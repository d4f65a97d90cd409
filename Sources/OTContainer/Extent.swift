import OTFoundation

/// A run of bytes in the file with its own checksum: one entry of the table.
struct Extent: Sendable, Hashable {
  enum Codec: UInt32, Sendable {
    /// Stored as it is.
    case raw = 0
    /// One zstd frame with content size and checksum.
    case zstd = 1
  }

  let byteOffset: Int
  let storedByteCount: Int
  let decodedByteCount: Int
  let codec: Codec
  /// CRC-32 of the stored bytes.
  let checksum: UInt32

  var end: Int { byteOffset + storedByteCount }

  /// The extent of an entry, as it is given; nil where one of its numbers is none.
  init?(_ bytes: UnsafeRawBufferPointer, at start: Int) {
    guard let codec = Codec(rawValue: bytes.littleEndian(at: start + 24)),
      let byteOffset = Int(exactly: bytes.littleEndian(at: start, as: UInt64.self)),
      let stored = Int(exactly: bytes.littleEndian(at: start + 8, as: UInt64.self)),
      let decoded = Int(exactly: bytes.littleEndian(at: start + 16, as: UInt64.self))
    else { return nil }
    self.init(
      byteOffset: byteOffset, storedByteCount: stored, decodedByteCount: decoded, codec: codec,
      checksum: bytes.littleEndian(at: start + 28))
  }

  /// An extent as given.
  init(byteOffset: Int, storedByteCount: Int, decodedByteCount: Int, codec: Codec, checksum: UInt32) {
    (self.byteOffset, self.storedByteCount, self.decodedByteCount) = (byteOffset, storedByteCount, decodedByteCount)
    (self.codec, self.checksum) = (codec, checksum)
  }

  /// True when so many stored bytes can decode to so many.
  static func isPossible(_ codec: Codec, stored: Int, decoded: Int) -> Bool {
    switch codec {
    case .raw: stored == decoded
    case .zstd: decoded / ContainerFormat.maximumExpansion <= stored
    }
  }

  func append(to bytes: inout [UInt8]) {
    bytes.appendLittleEndian(UInt64(byteOffset))
    bytes.appendLittleEndian(UInt64(storedByteCount))
    bytes.appendLittleEndian(UInt64(decodedByteCount))
    bytes.appendLittleEndian(codec.rawValue)
    bytes.appendLittleEndian(checksum)
  }
}

/// The extents of a file, checked: they follow one another from the header on,
/// each at the next multiple of 64, and then come metadata, table and the end.
struct ExtentTable: Sendable {
  let extents: [Extent]

  /// - Throws: `Refusal` with rule `otq-table`, `otq-table-checksum`,
  ///   `otq-extent`, `otq-codec` or `otq-padding`.
  init(_ file: MappedFile, header: ContainerHeader) throws {
    func refuse(_ rule: String, _ message: String, at offset: Int) -> Refusal {
      Refusal(rule, message, file: file.path, byteOffset: offset)
    }
    let size = ContainerFormat.extentEntryByteCount
    let section = header.table
    guard section.storedByteCount % size == 0,
      section.storedByteCount / size <= ContainerFormat.maximumExtentCount,
      section.byteOffset >= ContainerFormat.headerByteCount,
      section.byteOffset.addingChecked(section.storedByteCount) == file.byteCount
    else { throw refuse("otq-table", "the extent table is not the end of the file", at: 72) }
    let bytes = file.bytes(in: section.byteOffset..<file.byteCount)
    guard Checksum.crc32(bytes) == section.checksum else {
      throw refuse("otq-table-checksum", "the extent table is damaged", at: section.byteOffset)
    }
    var extents: [Extent] = []
    extents.reserveCapacity(bytes.count / size)
    var end = ContainerFormat.headerByteCount
    for start in stride(from: 0, to: bytes.count, by: size) {
      let place = section.byteOffset + start
      let expected = end.roundedUp(toMultipleOf: ContainerFormat.alignment)
      guard let codec = Extent.Codec(rawValue: bytes.littleEndian(at: start + 24)) else {
        throw refuse("otq-codec", "extent \(extents.count) has an unknown codec", at: place + 24)
      }
      guard Int(exactly: bytes.littleEndian(at: start, as: UInt64.self)) == expected,
        let stored = Int(exactly: bytes.littleEndian(at: start + 8, as: UInt64.self)),
        let decoded = Int(exactly: bytes.littleEndian(at: start + 16, as: UInt64.self)),
        let next = expected.addingChecked(stored), next <= section.byteOffset, stored > 0,
        (1...ContainerFormat.maximumDecodedByteCount).contains(decoded),
        Extent.isPossible(codec, stored: stored, decoded: decoded)
      else {
        throw refuse("otq-extent", "extent \(extents.count) overlaps, leaves a gap or has a wrong size", at: place)
      }
      extents.append(
        Extent(
          byteOffset: expected, storedByteCount: stored, decodedByteCount: decoded, codec: codec,
          checksum: bytes.littleEndian(at: start + 28)))
      try ExtentTable.checkPadding(end..<expected, of: file)
      end = next
    }
    let metadataStart = end.roundedUp(toMultipleOf: ContainerFormat.alignment)
    guard header.metadata.byteOffset == metadataStart,
      let metadataEnd = metadataStart.addingChecked(header.metadata.storedByteCount),
      metadataEnd <= section.byteOffset,
      metadataEnd.roundedUp(toMultipleOf: ContainerFormat.alignment) == section.byteOffset
    else { throw refuse("otq-table", "metadata does not lie between the extents and the table", at: 40) }
    try ExtentTable.checkPadding(end..<metadataStart, of: file)
    try ExtentTable.checkPadding(metadataEnd..<section.byteOffset, of: file)
    self.extents = extents
  }

  private static func checkPadding(_ range: Range<Int>, of file: MappedFile) throws {
    guard let index = file.bytes(in: range).firstIndex(where: { $0 != 0 }) else { return }
    throw Refusal("otq-padding", "padding is not zero", file: file.path, byteOffset: range.lowerBound + index)
  }
}
