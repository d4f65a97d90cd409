import OTFoundation

/// The operands behind an opcode; each read is checked against the end of the stream.
extension PickleMachine {
  mutating func checkProtocol() throws {
    let version = try number(1)
    guard version <= 5 else {
      throw refuse("pickle-protocol", "is of pickle protocol \(version); 5 is the last known")
    }
  }

  mutating func number(_ byteCount: Int) throws -> Int {
    guard let value = cursor.unsigned(byteCount) else { throw truncated() }
    return Int(truncatingIfNeeded: value)
  }

  mutating func bytes(_ count: Int) throws -> UnsafeRawBufferPointer {
    guard let bytes = cursor.take(count) else { throw truncated() }
    return bytes
  }

  mutating func longLength() throws -> Int {
    guard let length = cursor.long() else { throw truncated() }
    return length
  }

  mutating func string(_ byteCount: Int) throws -> String {
    try text(try bytes(byteCount))
  }

  mutating func line() throws -> String {
    guard let bytes = cursor.take(through: 0x0A) else { throw truncated() }
    return try text(bytes)
  }

  func text(_ bytes: UnsafeRawBufferPointer) throws -> String {
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw refuse("pickle-utf8", "has a string that is not UTF-8")
    }
    return text
  }

  /// Little-endian two's complement; no bytes are zero.
  func integer(_ bytes: UnsafeRawBufferPointer) -> PickleValue {
    guard bytes.count <= 8 else { return .bigInteger(Array(bytes)) }
    let isNegative = (bytes.last ?? 0) & 0x80 != 0
    let bits = bytes.reversed().reduce(isNegative ? -1 : 0) { $0 << 8 | Int($1) }
    return .integer(bits)
  }
}
