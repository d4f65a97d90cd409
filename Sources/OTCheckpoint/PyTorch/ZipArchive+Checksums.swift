import CZlib
import OTFoundation

extension ZipArchive {
  /// Compares the CRC-32 of each record's content with the directory's, on at
  /// most `threadCount` threads, and lets go of the pages it has read.
  ///
  /// A checksum of 0 on content means that none was computed; the names of
  /// those records are returned.
  ///
  /// - Throws: `Refusal` with rule `zip-checksum`.
  func verifyChecksums(of records: [Record], threadCount: Int) throws -> [String] {
    let missing = try mapBlocks(records.count, threadCount: threadCount) { index in
      let record = records[index]
      if record.range.isEmpty { return false }
      if record.checksum == 0 { return true }
      let actual = checksum(record.range)
      guard actual == record.checksum else {
        throw Refusal(
          "zip-checksum", "is damaged: record '\(record.name)' does not match its checksum",
          file: file.path, byteOffset: record.range.lowerBound, remedy: "fetch the file again")
      }
      return false
    }
    return zip(records, missing).filter(\.1).map(\.0.name)
  }

  private func checksum(_ range: Range<Int>) -> UInt32 {
    let blockByteCount = 4 << 20
    var value: UInt = 0
    var start = range.lowerBound
    while start < range.upperBound {
      let block = start..<min(start + blockByteCount, range.upperBound)
      value = crc32_z(
        value, file.bytes(in: block).bindMemory(to: UInt8.self).baseAddress, block.count)
      if range.count > blockByteCount { file.release(block) }
      start = block.upperBound
    }
    return UInt32(truncatingIfNeeded: value)
  }
}
