import OTFoundation

/// Reads the members of an object one after the other, so that no more than
/// one of them is in memory at a time: for texts that someone else wrote and
/// that may be long.
///
///     var reader = try JSONObjectReader(bytes, limits: limits, file: path)
///     while let (name, offset) = try reader.next() {
///       let value = try reader.value(byteCount: 4096)
///     }
///
/// Beside the members' names, which must not occur twice, it keeps nothing.
/// Whatever throws, throws a `Refusal` with a rule `json-…`, as parsing the
/// whole text would, once the reader has come to the fault.
package struct JSONObjectReader {
  private var scanner: JSONScanner
  private let limits: JSONLimits
  private let file: String
  private let baseOffset: Int
  private var isFirst = true

  /// Begins to read; nil when the text is no object. Whether it is otherwise
  /// well-formed is not known then.
  ///
  /// - Parameters:
  ///   - file: named in errors.
  ///   - baseOffset: where `bytes` starts in the file, for errors.
  package init?(_ bytes: UnsafeRawBufferPointer, limits: JSONLimits, file: String, baseOffset: Int = 0) throws {
    scanner = JSONScanner(bytes, limits: limits, file: file, baseOffset: baseOffset)
    self.limits = limits
    self.file = file
    self.baseOffset = baseOffset
    try scanner.checkStart()
    guard try scanner.enterObject() else {
      // Garbage is no JSON rather than no object; but of a long list nothing is kept.
      if scanner.nextByte() != UInt8(ascii: "[") { try scanner.scan() }
      return nil
    }
  }

  /// The next member's name, and where in the file it stands; nil after the
  /// last, once nothing but white space follows.
  ///
  /// The caller then takes the value by one of the other functions.
  package mutating func next() throws -> (name: String, byteOffset: Int)? {
    guard try scanner.hasMember(isFirst: isFirst) else {
      try scanner.checkEnd()
      return nil
    }
    isFirst = false
    let offset = baseOffset + scanner.position
    return (try scanner.scanKey(), offset)
  }

  /// The value of the member whose name was just read.
  ///
  /// - Parameter byteCount: the longest text of the value; `json-too-large` beyond.
  package mutating func value(byteCount: Int) throws -> JSONValue {
    _ = scanner.nextByte()
    let start = scanner.position
    try scanner.scanValue(endingBefore: start.addingChecked(byteCount) ?? .max)
    guard scanner.position - start <= byteCount else {
      throw scanner.failure("json-too-large", "the value is too long", at: start)
    }
    return try JSONValue.scanned(
      start..<scanner.position, by: scanner, depth: limits.depth, file: file, baseOffset: baseOffset)
  }

  /// The value of the member whose name was just read as texts by name; nil,
  /// with the reader spent, when it is anything but an object of strings.
  ///
  /// - Parameter count: the most texts; `json-too-many` beyond.
  package mutating func texts(count: Int) throws -> [(name: String, text: String)]? {
    guard try scanner.enterObject() else { return nil }
    var result: [(name: String, text: String)] = []
    while try scanner.hasMember(isFirst: result.isEmpty) {
      guard result.count < count else {
        throw scanner.failure("json-too-many", "more than \(count) members", at: scanner.position)
      }
      let name = try scanner.scanKey()
      guard scanner.nextByte() == UInt8(ascii: "\"") else { return nil }
      result.append((name, try scanner.scanText()))
    }
    return result
  }
}
