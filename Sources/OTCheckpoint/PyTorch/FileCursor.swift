import OTFoundation

/// Reads little-endian numbers from a part of a mapped file, each read checked
/// against the end of that part.
struct FileCursor {
  let file: MappedFile
  let end: Int
  private(set) var position: Int

  /// - Precondition: the range lies within the file.
  init(_ file: MappedFile, _ range: Range<Int>) {
    precondition(range.lowerBound >= 0 && range.upperBound <= file.byteCount)
    self.file = file
    position = range.lowerBound
    end = range.upperBound
  }

  var remaining: Int { end - position }

  /// The next `count` bytes, or nil when there are not as many.
  mutating func take(_ count: Int) -> UnsafeRawBufferPointer? {
    guard count >= 0, count <= remaining else { return nil }
    defer { position += count }
    return file.bytes(in: position..<position + count)
  }

  /// An unsigned number of `byteCount` (at most 8) bytes.
  mutating func unsigned(_ byteCount: Int) -> UInt64? {
    guard let bytes = take(byteCount) else { return nil }
    return bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }

  mutating func byte() -> UInt8? { unsigned(1).map { UInt8(truncatingIfNeeded: $0) } }

  mutating func half() -> Int? { unsigned(2).map { Int($0) } }

  mutating func word() -> Int? { unsigned(4).map { Int($0) } }

  /// Eight bytes; nil also for a value that no file can reach.
  mutating func long() -> Int? { unsigned(8).flatMap { Int(exactly: $0) } }

  /// The bytes up to `terminator`, which is passed over; nil when there is none.
  mutating func take(through terminator: UInt8) -> UnsafeRawBufferPointer? {
    let rest = file.bytes(in: position..<end)
    guard let length = rest.firstIndex(of: terminator) else { return nil }
    position += length + 1
    return UnsafeRawBufferPointer(rebasing: rest[..<length])
  }
}
