import OTFoundation

/// Finds and reads the central directory of a ZIP or ZIP64 file.
struct ZipDirectory {
  /// The directory's record of one entry, checked against its local header.
  struct Entry {
    let name: String
    let headerOffset: Int
    let range: Range<Int>
    let checksum: UInt32
  }

  /// The directory's place, and the number of entries that it must have.
  private struct Extent {
    var range: Range<Int>
    var entryCount: Int
  }

  private static let unknownHalf = 0xFFFF
  private static let unknownWord = 0xFFFF_FFFF
  /// Bit 3, sizes follow the data; bit 11, names are UTF-8.
  private static let permittedFlags = 0x0808

  let file: MappedFile

  init(_ file: MappedFile) { self.file = file }

  /// - Throws: `Refusal` with a rule `zip-…`.
  func entries() throws -> [Entry] {
    let extent = try locate()
    guard extent.entryCount <= ZipArchive.maximumRecordCount else {
      throw refuse(
        "zip-too-many-records", "lists \(extent.entryCount) entries", extent.range.lowerBound)
    }
    var cursor = FileCursor(file, extent.range)
    var entries: [Entry] = []
    while cursor.remaining > 0 {
      entries.append(try entry(&cursor, before: extent.range.lowerBound))
    }
    guard entries.count == extent.entryCount else {
      throw refuse(
        "zip-directory",
        "lists \(entries.count) entries where its end record says \(extent.entryCount)",
        extent.range.lowerBound)
    }
    try verifyDisjoint(entries)
    return entries
  }

  /// Names of entries, as far as they can be read, nothing else being checked: to say what an archive is.
  func names() -> [String] {
    guard let extent = try? locate() else { return [] }
    var cursor = FileCursor(file, extent.range)
    var names: [String] = []
    while cursor.remaining > 0, cursor.word() == 0x0201_4B50, cursor.take(24) != nil,
      let nameLength = cursor.half(), let extraLength = cursor.half(), let commentLength = cursor.half(),
      cursor.take(12) != nil, let name = cursor.take(nameLength), cursor.take(extraLength) != nil,
      cursor.take(commentLength) != nil
    {
      names.append(String(decoding: name, as: UTF8.self))
    }
    return names
  }

  // MARK: End records

  private func locate() throws -> Extent {
    let end = try endRecord()
    var cursor = FileCursor(file, end + 4..<end + 20)
    guard let disk = cursor.half(), let firstDisk = cursor.half(), let onDisk = cursor.half(),
      let entryCount = cursor.half(), let byteCount = cursor.word(), let offset = cursor.word()
    else { throw refuse("zip-end-record", "has an end record that is cut short", end) }
    let hasSentinel =
      entryCount == Self.unknownHalf || byteCount == Self.unknownWord || offset == Self.unknownWord
    var extent: Extent
    var directoryEnd = end
    if let large = try zip64Extent(before: end) {
      extent = large.extent
      directoryEnd = large.recordOffset
      let agrees =
        (entryCount == Self.unknownHalf || entryCount == extent.entryCount)
        && (byteCount == Self.unknownWord || byteCount == extent.range.count)
        && (offset == Self.unknownWord || offset == extent.range.lowerBound)
      guard agrees else {
        throw refuse("zip-end-record", "has end records that contradict each other", end)
      }
    } else {
      guard !hasSentinel else {
        throw refuse(
          "zip-zip64-locator", "lacks the ZIP64 locator that its end record calls for", end)
      }
      guard disk == 0, firstDisk == 0, onDisk == entryCount else {
        throw refuse("zip-end-record", "is one disk of a split archive", end)
      }
      extent = Extent(range: try directory(offset, byteCount, end), entryCount: entryCount)
    }
    guard extent.range.upperBound == directoryEnd else {
      throw refuse(
        "zip-directory", "has bytes between its directory and its end record", directoryEnd)
    }
    return extent
  }

  /// Position of the end record: the last one whose comment ends the file.
  private func endRecord() throws -> Int {
    let bytes = file.bytes
    let last = bytes.count - 22
    if last >= 0 {
      for start in stride(from: last, through: max(0, last - 0xFFFF), by: -1)
      where bytes[start] == 0x50 && bytes[start + 1] == 0x4B && bytes[start + 2] == 5
        && bytes[start + 3] == 6
      {
        if Int(bytes[start + 20]) | Int(bytes[start + 21]) << 8 == last - start { return start }
      }
    }
    throw Refusal(
      "zip-end-missing", "ends without a ZIP end record", file: file.path, byteOffset: bytes.count,
      remedy: "the file is incomplete; fetch it again")
  }

  private func zip64Extent(before end: Int) throws -> (extent: Extent, recordOffset: Int)? {
    guard end >= 20 else { return nil }
    var locator = FileCursor(file, end - 20..<end)
    guard locator.word() == 0x0706_4B50 else { return nil }
    func refusal(_ what: String) -> Refusal { refuse("zip-zip64-locator", what, end - 20) }
    guard locator.word() == 0, let offset = locator.long(), let diskCount = locator.word(),
      diskCount <= 1
    else { throw refusal("has a ZIP64 locator that leads outside the file") }
    // A version-1 record is 56 bytes long and ends where the locator starts.
    guard offset <= end - 20 - 56 else {
      throw refusal("has a ZIP64 locator that leads outside the file")
    }
    var record = FileCursor(file, offset..<end - 20)
    guard record.word() == 0x0606_4B50, let size = record.long(), size == end - 20 - offset - 12,
      record.take(4) != nil, record.word() == 0, record.word() == 0,
      let onDisk = record.long(), let entryCount = record.long(), onDisk == entryCount,
      let byteCount = record.long(), let start = record.long()
    else { throw refusal("has a ZIP64 locator that leads to no ZIP64 end record") }
    let range = try directory(start, byteCount, offset)
    return (Extent(range: range, entryCount: entryCount), offset)
  }

  private func directory(_ offset: Int, _ byteCount: Int, _ limit: Int) throws -> Range<Int> {
    guard let end = offset.addingChecked(byteCount), end <= limit else {
      throw refuse(
        "zip-directory-outside",
        "has a directory at \(offset) of \(byteCount) bytes, past its end record",
        limit)
    }
    return offset..<end
  }

  // MARK: Entries

  private func entry(_ cursor: inout FileCursor, before directoryStart: Int) throws -> Entry {
    let start = cursor.position
    let cut = refuse("zip-directory", "has a directory entry that is cut short or malformed", start)
    guard cursor.word() == 0x0201_4B50, cursor.take(4) != nil, let flags = cursor.half(),
      let method = cursor.half(), cursor.take(4) != nil, let checksum = cursor.unsigned(4),
      let compressedField = cursor.word(), let sizeField = cursor.word(),
      let nameLength = cursor.half(), let extraLength = cursor.half(),
      let commentLength = cursor.half(),
      let disk = cursor.half(), cursor.take(6) != nil, let offsetField = cursor.word(),
      let nameBytes = cursor.take(nameLength), let extraStart = Optional(cursor.position),
      cursor.take(extraLength) != nil, cursor.take(commentLength) != nil
    else { throw cut }
    guard nameLength <= ZipArchive.maximumNameByteCount,
      let name = String(validating: nameBytes, as: UTF8.self)
    else { throw refuse("zip-name", "has an entry whose name is not UTF-8 or too long", start) }
    guard flags & ~Self.permittedFlags == 0 else {
      let what =
        flags & 0x2041 != 0
        ? "is encrypted" : "has flag bits \(String(flags, radix: 16)) (hexadecimal)"
      throw refuse("zip-flags", "has an entry '\(name)' that \(what)", start)
    }
    guard method == 0 else {
      throw Refusal(
        "zip-compressed", "has a compressed entry '\(name)'", file: file.path, byteOffset: start,
        remedy: "re-save it uncompressed, as torch.save does")
    }
    // ZIP64 values follow in this order, each only where its field is all ones.
    var wide = try zip64Extra(extraStart..<extraStart + extraLength, start)
    func widened(_ field: Int) throws -> Int {
      guard field == Self.unknownWord else { return field }
      guard let value = wide?.long() else {
        throw refuse("zip-directory", "has an entry '\(name)' without its ZIP64 sizes", start)
      }
      return value
    }
    let size = try widened(sizeField)
    let compressed = try widened(compressedField)
    let offset = try widened(offsetField)
    guard size == compressed else {
      throw refuse(
        "zip-sizes", "has a stored entry '\(name)' with two sizes, \(size) and \(compressed)", start
      )
    }
    guard disk == 0 || disk == Self.unknownHalf, offset <= directoryStart else {
      throw refuse("zip-directory", "has an entry '\(name)' outside the file", start)
    }
    let central = Central(
      nameBytes: nameBytes, name: name, flags: flags, size: size,
      checksum: UInt32(truncatingIfNeeded: checksum))
    let dataStart = try dataStart(of: central, at: offset, before: directoryStart)
    guard let dataEnd = dataStart.addingChecked(size), dataEnd <= directoryStart else {
      throw refuse(
        "zip-record-outside", "has an entry '\(name)' that reaches past the data", offset)
    }
    return Entry(
      name: name, headerOffset: offset, range: dataStart..<dataEnd, checksum: central.checksum)
  }

  private struct Central {
    let nameBytes: UnsafeRawBufferPointer
    let name: String
    let flags: Int
    let size: Int
    let checksum: UInt32
  }

  /// Checks a local header against its directory entry; returns where the
  /// content starts.
  private func dataStart(of central: Central, at offset: Int, before limit: Int) throws -> Int {
    var cursor = FileCursor(file, offset..<limit)
    guard cursor.word() == 0x0403_4B50, cursor.take(2) != nil, let flags = cursor.half(),
      let method = cursor.half(), cursor.take(4) != nil, let checksum = cursor.unsigned(4),
      let compressed = cursor.word(), let size = cursor.word(),
      let nameLength = cursor.half(), let extraLength = cursor.half(),
      let name = cursor.take(nameLength), cursor.take(extraLength) != nil
    else {
      throw refuse(
        "zip-local-header", "has no local header for the entry '\(central.name)'", offset)
    }
    guard name.elementsEqual(central.nameBytes) else {
      throw refuse(
        "zip-local-name", "calls the entry '\(central.name)' something else in its local header",
        offset)
    }
    let follows = flags & 8 != 0
    func agrees(_ field: Int) -> Bool {
      field == central.size || field == Self.unknownWord || follows && field == 0
    }
    guard flags == central.flags, method == 0, agrees(size), agrees(compressed),
      checksum == central.checksum || follows && checksum == 0
    else {
      throw refuse(
        "zip-local-header",
        "has a local header that contradicts the directory on '\(central.name)'", offset)
    }
    return cursor.position
  }

  private func zip64Extra(_ range: Range<Int>, _ entryStart: Int) throws -> FileCursor? {
    var cursor = FileCursor(file, range)
    while cursor.remaining > 0 {
      guard let identifier = cursor.half(), let length = cursor.half() else { break }
      let start = cursor.position
      guard cursor.take(length) != nil else { break }
      if identifier == 1 { return FileCursor(file, start..<start + length) }
      if cursor.remaining == 0 { return nil }
    }
    if range.isEmpty { return nil }
    throw refuse("zip-directory", "has a malformed extra field", entryStart)
  }

  private func verifyDisjoint(_ entries: [Entry]) throws {
    var end = 0
    for entry in entries.sorted(by: { $0.headerOffset < $1.headerOffset }) {
      guard entry.headerOffset >= end else {
        throw refuse(
          "zip-overlap", "has an entry '\(entry.name)' that overlaps another", entry.headerOffset)
      }
      end = entry.range.upperBound
    }
  }

  private func refuse(_ rule: String, _ message: String, _ byteOffset: Int) -> Refusal {
    Refusal(rule, message, file: file.path, byteOffset: byteOffset)
  }
}
