import CJSONC
import OTFoundation

extension JSONValue {
  /// Parses `bytes`, which must hold exactly one JSON value (RFC 8259) between
  /// optional white space.
  ///
  /// - Parameters:
  ///   - file: named in errors.
  ///   - baseOffset: where `bytes` starts in the file, for errors.
  /// - Throws: `Refusal` with a rule `json-…`: see `JSONScanner`.
  package static func parse(
    _ bytes: UnsafeRawBufferPointer, limits: JSONLimits, file: String, baseOffset: Int = 0
  ) throws -> JSONValue {
    var scanner = JSONScanner(bytes, limits: limits, file: file, baseOffset: baseOffset)
    try scanner.scan()
    return try scanned(0..<bytes.count, by: scanner, depth: limits.depth, file: file, baseOffset: baseOffset)
  }

  /// The value in `range` of a scanner's text, which it has just scanned.
  static func scanned(
    _ range: Range<Int>, by scanner: borrowing JSONScanner, depth: Int, file: String, baseOffset: Int
  ) throws -> JSONValue {
    // +1: json-c counts the root value as a level.
    guard let tokener = json_tokener_new_ex(Int32(depth) + 1) else {
      throw Refusal("json-memory", "no memory to parse JSON", file: file)
    }
    defer { json_tokener_free(tokener) }
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8)

    var root: OpaquePointer?
    func feed(_ part: UnsafeRawBufferPointer) {
      guard let start = part.baseAddress, !part.isEmpty else { return }
      root = json_tokener_parse_ex(tokener, start.assumingMemoryBound(to: CChar.self), Int32(part.count))
    }
    var start = range.lowerBound
    for replacement in scanner.replacements {
      feed(UnsafeRawBufferPointer(rebasing: scanner.bytes[start..<replacement.range.lowerBound]))
      replacement.bytes.withUnsafeBytes { feed($0) }
      start = replacement.range.upperBound
    }
    feed(UnsafeRawBufferPointer(rebasing: scanner.bytes[start..<range.upperBound]))
    // A number at the end of the text is complete only once a byte follows.
    if json_tokener_get_error(tokener) == json_tokener_continue {
      [UInt8(0)].withUnsafeBytes { feed($0) }
    }
    defer { json_object_put(root) }
    let status = json_tokener_get_error(tokener)
    guard status == json_tokener_success else {
      throw Refusal(
        "json-syntax", "is not JSON: \(String(cString: json_tokener_error_desc(status)))", file: file,
        byteOffset: baseOffset + range.lowerBound)
    }
    return try JSONValue(root, file: file)
  }

  /// Parses a text: see `parse(_:limits:file:baseOffset:)`.
  package static func parse(
    _ text: String, limits: JSONLimits = .configuration, file: String = "JSON"
  ) throws -> JSONValue {
    try Array(text.utf8).withUnsafeBytes { try parse($0, limits: limits, file: file) }
  }

  /// Reads and parses a whole file.
  ///
  /// - Throws: `Refusal` with a rule `json-is-…` for a file of another kind; as `parse(_:limits:file:baseOffset:)`.
  package static func parse(contentsOf file: MappedFile, limits: JSONLimits = .configuration) throws -> JSONValue {
    try checkKind(of: file)
    return try parse(file.bytes, limits: limits, file: file.path)
  }

  /// Checks that a whole file is JSON, keeping nothing of it.
  ///
  /// - Throws: as `parse(contentsOf:)`.
  package static func check(contentsOf file: MappedFile, limits: JSONLimits = .configuration) throws {
    try checkKind(of: file)
    var scanner = JSONScanner(file.bytes, limits: limits, file: file.path, baseOffset: 0)
    try scanner.scan()
  }

  /// - Throws: `Refusal` with a rule `json-is-…`.
  private static func checkKind(of file: MappedFile) throws {
    let content = FileContent(file.bytes)
    // What begins as an object may be one; other JSON has no beginning of its own.
    guard content == .json || content == .unknown else {
      throw content.refusal(reader: "json", wanted: "JSON", file: file.path)
    }
  }

  /// Recursion is as deep as the scanner allowed.
  private init(_ object: OpaquePointer?, file: String) throws {
    switch json_object_get_type(object) {
    case json_type_boolean: self = .bool(json_object_get_boolean(object) != 0)
    case json_type_int: self = .integer(Int(json_object_get_int64(object)))
    case json_type_double:
      let value = json_object_get_double(object)
      guard value.isFinite else {
        throw Refusal("json-number-range", "a number does not fit in a double", file: file)
      }
      self = .number(value)
    case json_type_string:
      let text = UnsafeRawBufferPointer(
        start: json_object_get_string(object), count: Int(json_object_get_string_len(object)))
      self = .string(String(decoding: text, as: UTF8.self))
    case json_type_array:
      self = .array(
        try (0..<json_object_array_length(object)).map {
          try JSONValue(json_object_array_get_idx(object, $0), file: file)
        })
    case json_type_object:
      var members = JSONObject()
      var iterator = json_object_iter_begin(object)
      var end = json_object_iter_end(object)
      while json_object_iter_equal(&iterator, &end) == 0 {
        let key = String(cString: json_object_iter_peek_name(&iterator))
        members[key] = try JSONValue(json_object_iter_peek_value(&iterator), file: file)
        json_object_iter_next(&iterator)
      }
      self = .object(members)
    default: self = .null
    }
  }
}
