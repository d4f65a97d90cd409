import COTQ
import OTFoundation
import OTJSON
import OTPlatform
import OTQ

/// What callers in C give, checked.
enum Argument {
  /// - Throws: `Refusal` with rule `argument-null`.
  static func present<Value>(_ value: Value?, _ name: String) throws(Refusal) -> Value {
    guard let value else { throw Refusal("argument-null", "\(name) is NULL") }
    return value
  }

  /// The object of a handle.
  ///
  /// - Throws: `Refusal` with rule `argument-handle`.
  static func object<Object: AnyObject & Sendable>(
    _ handle: OpaquePointer?, _ name: String, as kind: Object.Type
  ) throws(Refusal) -> Object {
    guard let object = Handles.shared.find(handle, as: kind) else {
      throw Refusal("argument-handle", "\(name) is no open handle of its kind")
    }
    return object
  }

  /// A text that ends with a zero byte.
  ///
  /// - Throws: `Refusal` with rule `argument-null` or `argument-text`.
  static func text(_ text: UnsafePointer<CChar>?, _ name: String) throws(Refusal) -> String {
    try self.text(text, byteCount: -1, name)
  }

  /// A text of `byteCount` bytes, or up to its first zero byte where that is -1.
  ///
  /// - Throws: `Refusal` with rule `argument-null`, `argument-length` or `argument-text`.
  static func text(_ text: UnsafePointer<CChar>?, byteCount: Int, _ name: String) throws(Refusal) -> String {
    if byteCount == 0 { return "" }
    let text = try present(text, name)
    guard byteCount >= -1 else { throw Refusal("argument-length", "\(name) has more bytes than there can be") }
    let bytes = UnsafeRawBufferPointer(start: text, count: byteCount == -1 ? strlen(text) : byteCount)
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw Refusal("argument-text", "\(name) is not valid UTF-8")
    }
    return text
  }

  /// Numbers in memory of the caller.
  ///
  /// - Throws: `Refusal` with rule `argument-null` or `argument-length`.
  static func tokenIDs(_ tokenIDs: UnsafePointer<Int64>?, _ count: Int) throws(Refusal) -> [Int] {
    if count == 0 { return [] }
    let tokenIDs = try present(tokenIDs, "token_ids")
    guard count > 0, count <= Int.max / 8 else {
      throw Refusal("argument-length", "token_ids has more numbers than there can be")
    }
    return UnsafeBufferPointer(start: tokenIDs, count: count).map { Int($0) }
  }

  /// Memory of the caller for exactly `wanted` elements.
  ///
  /// - Throws: `Refusal` with rule `argument-null` or `argument-length`.
  static func buffer<Element>(
    _ buffer: UnsafeMutablePointer<Element>?, _ count: Int, wanted: Int?, _ name: String
  ) throws(Refusal) -> UnsafeMutableBufferPointer<Element> {
    guard let wanted, count == wanted else {
      throw Refusal("argument-length", "\(name) has \(count) elements, not \(wanted.map(String.init) ?? "as many")")
    }
    if wanted == 0 { return UnsafeMutableBufferPointer(start: nil, count: 0) }
    return UnsafeMutableBufferPointer(start: try present(buffer, name), count: count)
  }

  /// Options: the values of each member of a JSON object, as a command line would have them.
  ///
  /// - Throws: `Refusal` with rule `option-syntax`, `option-value` or `argument-text`.
  static func options(_ options: UnsafePointer<CChar>?) throws(Refusal) -> [String: [String]] {
    guard options != nil else { return [:] }
    let text = try text(options, "options")
    let json: JSONValue
    do {
      json = try JSONValue.parse(text)
    } catch {
      throw Refusal("option-syntax", "options are no JSON: \((error as? Refusal)?.message ?? "\(error)")")
    }
    guard let object = json.object else { throw Refusal("option-syntax", "options are no JSON object") }
    var result: [String: [String]] = [:]
    for (name, value) in object.members {
      switch value {
      case .null, .bool(false): break
      case .bool(true): result[name] = []
      case .array(let values):
        // None is as if it were not there.
        if !values.isEmpty { result[name] = try values.map { value throws(Refusal) in try single(value, name) } }
      default: result[name] = [try single(value, name)]
      }
    }
    return result
  }

  private static func single(_ value: JSONValue, _ name: String) throws(Refusal) -> String {
    switch value {
    case .string(let text): return text
    case .integer(let number): return "\(number)"
    case .number(let number): return "\(number)"
    default: throw Refusal("option-value", "--\(name) has a value that is neither text nor a number")
    }
  }
}
