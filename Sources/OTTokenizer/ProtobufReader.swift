import OTFoundation

/// The fields of a message in the wire format of Protocol Buffers, one after the other.
struct ProtobufReader {
  /// A field's value, as far as its bytes tell.
  enum Value {
    case integer(UInt64)
    case bytes(ArraySlice<UInt8>)
    /// 32 or 64 bits, little-endian.
    case fixed(UInt64)
  }

  private var rest: ArraySlice<UInt8>
  private let file: String

  init(_ bytes: ArraySlice<UInt8>, file: String) {
    rest = bytes
    self.file = file
  }

  /// The next field; nil at the end.
  ///
  /// - Throws: `Refusal` `tokenizer-sentencepiece` for bytes that are no message.
  mutating func next() throws -> (number: Int, value: Value)? {
    guard !rest.isEmpty else { return nil }
    let key = try integer()
    guard let number = Int(exactly: key >> 3), number > 0 else { throw damaged }
    switch key & 7 {
    case 0: return (number, .integer(try integer()))
    case 1: return (number, .fixed(try fixed(8)))
    case 2:
      guard let count = Int(exactly: try integer()), count <= rest.count else { throw damaged }
      defer { rest = rest.dropFirst(count) }
      return (number, .bytes(rest.prefix(count)))
    case 5: return (number, .fixed(try fixed(4)))
    default: throw damaged
    }
  }

  var damaged: Refusal {
    Refusal(
      "tokenizer-sentencepiece", "is no SentencePiece model, or a damaged one", file: file,
      remedy: "put the model's tokenizer.json beside the checkpoint")
  }

  private mutating func integer() throws -> UInt64 {
    var value: UInt64 = 0
    for shift in stride(from: UInt64(0), to: 70, by: 7) {
      guard let byte = rest.popFirst() else { throw damaged }
      guard shift < 63 || byte <= 1 else { throw damaged }
      value |= UInt64(byte & 0x7F) << shift
      if byte < 0x80 { return value }
    }
    throw damaged
  }

  private mutating func fixed(_ count: Int) throws -> UInt64 {
    guard rest.count >= count else { throw damaged }
    defer { rest = rest.dropFirst(count) }
    return rest.prefix(count).reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }
}
