import CJSONC

extension JSONValue {
  /// The value as JSON text: no white space between tokens, or indented by two
  /// spaces when `pretty`. Members keep their order; doubles are written in
  /// the fewest digits that read back exactly.
  ///
  /// - Precondition: doubles are finite and no member's name contains NUL.
  package func text(pretty: Bool = false) -> String {
    let object = makeObject()
    defer { json_object_put(object) }
    let layout = pretty ? JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED : JSON_C_TO_STRING_PLAIN
    var length = 0
    let text = json_object_to_json_string_length(object, layout | JSON_C_TO_STRING_NOSLASHESCAPE, &length)
    return String(decoding: UnsafeRawBufferPointer(start: text, count: length), as: UTF8.self)
  }

  private func makeObject() -> OpaquePointer? {
    switch self {
    case .null: return nil
    case .bool(let value): return json_object_new_boolean(value ? 1 : 0)
    case .integer(let value): return json_object_new_int64(Int64(value))
    case .number(let value):
      precondition(value.isFinite, "JSON has no NaN and no infinity")
      return json_object_new_double_s(value, "\(value)")
    case .string(let value):
      return value.withCString { json_object_new_string_len($0, Int32(value.utf8.count)) }
    case .array(let values):
      let array = json_object_new_array_ext(Int32(values.count))
      for value in values { json_object_array_add(array, value.makeObject()) }
      return array
    case .object(let members):
      let object = json_object_new_object()
      for (key, value) in members.members {
        precondition(!key.utf8.contains(0), "a member's name contains NUL")
        json_object_object_add(object, key, value.makeObject())
      }
      return object
    }
  }
}
