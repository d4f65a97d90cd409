import OTFoundation

/// Vets a JSON text byte by byte before json-c sees it.
///
/// json-c 0.16 clamps big integers, keeps the last of two equal keys, cuts
/// keys at an escaped NUL and accepts NaN, single quotes and lone surrogates
/// even in its strict mode; two readers of one file could then see different
/// tensors. The scanner accepts RFC 8259 and nothing else, without recursion.
///
/// Rules: `json-too-large`, `json-bom`, `json-not-utf8`, `json-syntax`,
/// `json-truncated`, `json-trailing`, `json-depth`, `json-too-many`,
/// `json-duplicate-key`, `json-lone-surrogate`, `json-nul-key`, `json-integer-range`.
struct JSONScanner {
  private enum Container {
    case array
    case object(JSONNames)
  }
  private enum Expectation {
    case value, valueOrEnd, keyOrEnd, key, commaOrEnd
  }
  let bytes: UnsafeRawBufferPointer
  private let limits: JSONLimits
  private let file: String
  private let baseOffset: Int
  /// The next byte.
  private(set) var position = 0
  private var stack: [Container] = []
  private var containerCount = 0
  /// Texts for json-c to read instead of the bytes of a range, in order: "e0" at
  /// the end of integers that do not fit in Int makes them doubles, and the
  /// UTF-8 form of a surrogate pair, because json-c 0.16 reads U+FFFD for the
  /// pairs of U+xD800 … U+xDFFF.
  private(set) var replacements: [Replacement] = []

  /// Bytes that stand for those of a range of the text.
  struct Replacement {
    let range: Range<Int>
    let bytes: [UInt8]
  }

  init(_ bytes: UnsafeRawBufferPointer, limits: JSONLimits, file: String, baseOffset: Int) {
    self.bytes = bytes
    self.limits = limits
    self.file = file
    self.baseOffset = baseOffset
  }

  /// Scans the whole text: one value between optional white space.
  mutating func scan() throws {
    try checkStart()
    try scanValue(endingBefore: bytes.count)
    try checkEnd()
  }

  /// Checks what can be told before the first value.
  func checkStart() throws {
    // json-c counts bytes in an int.
    guard bytes.count <= min(limits.byteCount, Int(Int32.max) - 16) else {
      throw Refusal("json-too-large", "JSON of \(bytes.count) bytes exceeds \(limits.byteCount)", file: file)
    }
    if bytes.count >= 3, bytes[0] == 0xEF, bytes[1] == 0xBB, bytes[2] == 0xBF {
      var refusal = failure("json-bom", "JSON begins with a byte order mark", at: 0)
      refusal.remedy = "save it as UTF-8 without one: tail -c +4 FILE"
      throw refusal
    }
  }

  /// Checks that nothing follows but white space.
  mutating func checkEnd() throws {
    guard nextByte() == nil else { throw failure("json-trailing", "bytes after the JSON value", at: position) }
  }

  /// Scans the value that is next, keeping nothing of it but `replacements`.
  ///
  /// - Throws: also rule `json-too-large` when tokens of it begin at `limit` or later.
  mutating func scanValue(endingBefore limit: Int) throws {
    replacements.removeAll(keepingCapacity: true)
    let depth = stack.count
    var expected = Expectation.value
    repeat {
      guard let byte = nextByte() else { throw failure("json-truncated", "JSON ends too early", at: position) }
      guard position < limit else { throw failure("json-too-large", "the value is too long", at: position) }
      expected = try scanToken(byte, expected)
    } while stack.count > depth
  }

  private mutating func scanToken(_ byte: UInt8, _ expected: Expectation) throws -> Expectation {
    switch expected {
    case .commaOrEnd:
      guard byte == UInt8(ascii: ",") else { return try close(byte) }
      position += 1
      if case .array? = stack.last { return .value }
      return .key
    case .keyOrEnd where byte == UInt8(ascii: "}"), .valueOrEnd where byte == UInt8(ascii: "]"):
      return try close(byte)
    case .key, .keyOrEnd:
      _ = try scanKey()
      return .value
    case .value, .valueOrEnd:
      return try scanValue(byte)
    }
  }

  private mutating func close(_ byte: UInt8) throws -> Expectation {
    switch (stack.last, byte) {
    case (.array?, UInt8(ascii: "]")), (.object?, UInt8(ascii: "}")):
      position += 1
      stack.removeLast()
      return .commaOrEnd
    default: throw failure("json-syntax", "a comma or the end of the list is missing", at: position)
    }
  }

  /// Scans the name of a member of the innermost object, and the colon.
  mutating func scanKey() throws -> String {
    let start = position
    guard bytes[position] == UInt8(ascii: "\"") else {
      throw failure("json-syntax", "a member's name is missing", at: position)
    }
    let key = try scanText()
    guard !key.utf8.contains(0) else {
      throw failure("json-nul-key", "a member's name contains NUL", at: start)
    }
    guard case .object(var names)? = stack.popLast() else { return key }
    guard names.insert(key) == nil else {
      throw failure("json-duplicate-key", "member '\(key.prefix(80))' occurs twice", at: start)
    }
    stack.append(.object(names))
    guard let byte = nextByte() else {
      throw failure("json-truncated", "JSON ends too early", at: position)
    }
    guard byte == UInt8(ascii: ":") else {
      throw failure("json-syntax", "a colon is missing", at: position)
    }
    position += 1
    return key
  }

  /// True when the innermost object, entered by `enterObject`, has another
  /// member; its name is next then, and otherwise the object is left.
  mutating func hasMember(isFirst: Bool) throws -> Bool {
    guard let byte = nextByte() else { throw failure("json-truncated", "JSON ends too early", at: position) }
    if isFirst && byte != UInt8(ascii: "}") { return true }
    guard byte == UInt8(ascii: ",") else {
      _ = try close(byte)
      return false
    }
    position += 1
    if nextByte() == nil { throw failure("json-truncated", "JSON ends too early", at: position) }
    return true
  }

  /// Enters the object that is next; false, and nothing done, when none is.
  mutating func enterObject() throws -> Bool {
    guard nextByte() == UInt8(ascii: "{") else { return false }
    _ = try scanValue(UInt8(ascii: "{"))
    return true
  }

  private mutating func scanValue(_ byte: UInt8) throws -> Expectation {
    switch byte {
    case UInt8(ascii: "{"), UInt8(ascii: "["):
      guard stack.count < limits.depth else {
        throw failure("json-depth", "nesting exceeds \(limits.depth)", at: position)
      }
      containerCount += 1
      guard containerCount <= limits.containerCount else {
        throw failure("json-too-many", "more than \(limits.containerCount) arrays and objects", at: position)
      }
      position += 1
      stack.append(byte == UInt8(ascii: "[") ? .array : .object(JSONNames()))
      return byte == UInt8(ascii: "[") ? .valueOrEnd : .keyOrEnd
    case UInt8(ascii: "\""):
      _ = try scanString(into: nil)
    case UInt8(ascii: "t"): try scanWord("true")
    case UInt8(ascii: "f"): try scanWord("false")
    case UInt8(ascii: "n"): try scanWord("null")
    case UInt8(ascii: "-") where bytes[position...].starts(with: "-Infinity".utf8): throw noValue()
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): try scanNumber()
    default: throw noValue()
    }
    return .commaOrEnd
  }

  /// The refusal of what is next and no value: NaN and infinity, as Python writes them, by name.
  private func noValue() -> Refusal {
    for word in ["NaN", "Infinity", "-Infinity", "None", "True", "False"]
    where bytes[position...].starts(with: word.utf8) {
      var refusal = failure("json-syntax", "'\(word)' is Python's, not JSON", at: position)
      refusal.remedy = "write a number, true, false or null in its place"
      return refusal
    }
    return failure("json-syntax", "no JSON value starts here", at: position)
  }

  private mutating func scanWord(_ word: StaticString) throws {
    for index in 0..<word.utf8CodeUnitCount {
      guard position < bytes.count else {
        throw failure("json-truncated", "JSON ends too early", at: position)
      }
      guard bytes[position] == word.utf8Start[index] else {
        throw failure("json-syntax", "no JSON value starts here", at: position)
      }
      position += 1
    }
  }

  private mutating func scanNumber() throws {
    let start = position
    if bytes[position] == UInt8(ascii: "-") { position += 1 }
    let integerStart = position
    try scanDigits()
    if bytes[integerStart] == UInt8(ascii: "0"), position > integerStart + 1 {
      throw failure("json-syntax", "a number has a leading zero", at: start)
    }
    var isInteger = true
    if position < bytes.count, bytes[position] == UInt8(ascii: ".") {
      isInteger = false
      position += 1
      try scanDigits()
    }
    if position < bytes.count, bytes[position] | 0x20 == UInt8(ascii: "e") {
      isInteger = false
      position += 1
      if position < bytes.count, bytes[position] == UInt8(ascii: "+") || bytes[position] == UInt8(ascii: "-") {
        position += 1
      }
      try scanDigits()
    }
    guard isInteger, position - start > 18 else { return }
    let text = String(decoding: bytes[start..<position], as: UTF8.self)
    if Int(text) == nil {
      guard limits.readsLargeIntegersAsDoubles else {
        throw failure("json-integer-range", "integer \(text.prefix(40)) does not fit in 64 bits", at: start)
      }
      replacements.append(Replacement(range: position..<position, bytes: Array("e0".utf8)))
    }
  }

  private mutating func scanDigits() throws {
    let start = position
    while position < bytes.count, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[position]) {
      position += 1
    }
    guard position > start else {
      if position == bytes.count { throw failure("json-truncated", "JSON ends too early", at: position) }
      throw failure("json-syntax", "a digit is missing", at: position)
    }
  }

  func failure(_ rule: String, _ message: String, at offset: Int) -> Refusal {
    Refusal(rule, message, file: file, byteOffset: baseOffset + offset)
  }

  /// The next byte that is no white space, at which `position` stops; nil at the end.
  mutating func nextByte() -> UInt8? {
    while position < bytes.count {
      switch bytes[position] {
      case 0x20, 0x09, 0x0A, 0x0D: position += 1
      default: return bytes[position]
      }
    }
    return nil
  }
}

// MARK: - Strings

extension JSONScanner {
  /// The unescaped text of the string that starts here.
  ///
  /// Read twice when it has escapes, so that no buffer grows beyond the text.
  mutating func scanText() throws -> String {
    let start = position
    guard try scanString(into: nil) else {
      return String(decoding: bytes[start + 1..<position - 1], as: UTF8.self)
    }
    let count = position - start - 2
    position = start
    // The second pass finds the same ones again.
    let replacementCount = replacements.count
    defer { replacements.removeLast(replacements.count - replacementCount) }
    return try String(unsafeUninitializedCapacity: count) { buffer in
      var writer = TextWriter(buffer: buffer)
      _ = try withUnsafeMutablePointer(to: &writer) { try scanString(into: $0) }
      return writer.count
    }
  }

  /// The target of unescaped text, which is never longer than its source.
  private struct TextWriter {
    let buffer: UnsafeMutableBufferPointer<UInt8>
    var count = 0

    mutating func append(_ byte: UInt8) {
      buffer[count] = byte
      count += 1
    }
  }

  /// Scans the string that starts here, unescaping it into `writer`; returns
  /// whether it has escapes.
  private mutating func scanString(into writer: UnsafeMutablePointer<TextWriter>?) throws -> Bool {
    let start = position
    var hasEscapes = false
    position += 1
    while true {
      guard position < bytes.count else {
        throw failure("json-truncated", "a string is not closed", at: start)
      }
      let byte = bytes[position]
      switch byte {
      case UInt8(ascii: "\""):
        position += 1
        return hasEscapes
      case UInt8(ascii: "\\"):
        hasEscapes = true
        let scalar = try scanEscape()
        if let writer { for byte in UTF8.encode(scalar) ?? .init() { writer.pointee.append(byte) } }
      case 0..<0x20:
        throw failure("json-syntax", "a control character in a string", at: position)
      case 0x80...:
        let length = try scanMultibyte()
        if let writer { for byte in bytes[position - length..<position] { writer.pointee.append(byte) } }
      default:
        writer?.pointee.append(byte)
        position += 1
      }
    }
  }

  private mutating func scanEscape() throws -> Unicode.Scalar {
    let start = position
    guard position + 1 < bytes.count else {
      throw failure("json-truncated", "a string is not closed", at: start)
    }
    let kind = bytes[position + 1]
    position += 2
    switch kind {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(kind)
    case UInt8(ascii: "b"): return "\u{8}"
    case UInt8(ascii: "f"): return "\u{C}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"): break
    default: throw failure("json-syntax", "an unknown escape", at: start)
    }
    let first = try scanHex(start)
    if let scalar = Unicode.Scalar(first) { return scalar }
    guard (0xD800..<0xDC00).contains(first), position + 1 < bytes.count,
      bytes[position] == UInt8(ascii: "\\"), bytes[position + 1] == UInt8(ascii: "u")
    else { throw failure("json-lone-surrogate", "half of a surrogate pair", at: start) }
    position += 2
    let second = try scanHex(start)
    guard (0xDC00..<0xE000).contains(second),
      let scalar = Unicode.Scalar(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))
    else { throw failure("json-lone-surrogate", "half of a surrogate pair", at: start) }
    replacements.append(Replacement(range: start..<position, bytes: Array(String(scalar).utf8)))
    return scalar
  }

  private mutating func scanHex(_ start: Int) throws -> UInt32 {
    guard position + 4 <= bytes.count else {
      throw failure("json-truncated", "a string is not closed", at: start)
    }
    var value: UInt32 = 0
    for _ in 0..<4 {
      let byte = bytes[position]
      guard let digit = Character(Unicode.Scalar(byte)).hexDigitValue, byte < 0x80 else {
        throw failure("json-syntax", "an escape needs four hexadecimal digits", at: start)
      }
      value = value << 4 | UInt32(digit)
      position += 1
    }
    return value
  }

  /// Scans one well-formed multi-byte sequence of UTF-8 (Unicode, table 3-7).
  private mutating func scanMultibyte() throws -> Int {
    let lead = bytes[position]
    let length: Int
    var secondRange: ClosedRange<UInt8> = 0x80...0xBF
    switch lead {
    case 0xC2...0xDF: length = 2
    case 0xE0: (length, secondRange) = (3, 0xA0...0xBF)
    case 0xED: (length, secondRange) = (3, 0x80...0x9F)
    case 0xE1...0xEF: length = 3
    case 0xF0: (length, secondRange) = (4, 0x90...0xBF)
    case 0xF4: (length, secondRange) = (4, 0x80...0x8F)
    case 0xF1...0xF3: length = 4
    default: throw failure("json-not-utf8", "is not UTF-8", at: position)
    }
    guard position + length <= bytes.count, secondRange.contains(bytes[position + 1]),
      (2..<length).allSatisfy({ (0x80...0xBF).contains(bytes[position + $0]) })
    else { throw failure("json-not-utf8", "is not UTF-8", at: position) }
    position += length
    return length
  }
}
