import OTFoundation

/// A JSON value that has passed the strict scanner.
///
/// Objects keep the order of their members, so that writing is deterministic.
package enum JSONValue: Sendable, Hashable {
  case null
  case bool(Bool)
  case integer(Int)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object(JSONObject)

  /// The text of a string, else nil.
  package var string: String? { if case .string(let value) = self { value } else { nil } }
  /// A boolean, else nil.
  package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  /// An integer, else nil.
  package var integer: Int? { if case .integer(let value) = self { value } else { nil } }
  /// The elements of an array, else nil.
  package var array: [JSONValue]? { if case .array(let value) = self { value } else { nil } }
  /// The members of an object, else nil.
  package var object: JSONObject? { if case .object(let value) = self { value } else { nil } }
  /// The value as a double, be it written as an integer or not.
  package var double: Double? {
    switch self {
    case .integer(let value): Double(value)
    case .number(let value): value
    default: nil
    }
  }
  /// A number; null for none, and for NaN and infinity, which JSON cannot write.
  package static func finite(_ value: Double?) -> JSONValue {
    value.flatMap { $0.isFinite ? .number($0) : nil } ?? .null
  }
  /// A number that `finite` made: NaN for null, nil for what is no number.
  package var measured: Double? { self == .null ? .nan : double }
  /// The value under `key`; nil when this is no object or has no such member.
  package subscript(key: String) -> JSONValue? { object?[key] }
}

/// A member's name, equal to another only when every byte is: String takes
/// U+00E9 and U+0065 U+0301 for the same key, and JSON does not.
struct JSONKey: Hashable, Sendable {
  let text: String

  init(_ text: String) { self.text = text }

  static func == (first: JSONKey, second: JSONKey) -> Bool {
    first.text.hasSameBytes(as: second.text)
  }

  func hash(into hasher: inout Hasher) {
    var text = text
    text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
  }
}

/// The members of a JSON object, in order, with constant-time look-up.
///
/// Names that differ in any byte are different members.
package struct JSONObject: Sendable, Hashable {
  private struct Member: Sendable, Hashable {
    let key: JSONKey
    var value: JSONValue
  }

  /// Most members that are searched one after the other, since hashing names takes longer.
  private static let searchedCount = 12

  private var list: [Member] = []
  /// Index of each member by its key, when there are more.
  private var places: [JSONKey: Int] = [:]

  /// An object without members.
  package init() {}

  /// The value of a member; nil when there is none, and setting nil removes it.
  package subscript(key: String) -> JSONValue? {
    get { place(of: JSONKey(key)).map { list[$0].value } }
    set {
      let key = JSONKey(key)
      switch (place(of: key), newValue) {
      case (let place?, let value?): list[place].value = value
      case (let place?, nil):
        list.remove(at: place)
        places = [:]
        if list.count > JSONObject.searchedCount { findPlaces() }
      case (nil, let value?):
        list.append(Member(key: key, value: value))
        if !places.isEmpty {
          places[key] = list.count - 1
        } else if list.count > JSONObject.searchedCount {
          findPlaces()
        }
      case (nil, nil): break
      }
    }
  }

  private mutating func findPlaces() {
    places = Dictionary(uniqueKeysWithValues: list.enumerated().map { ($1.key, $0) })
  }

  private func place(of key: JSONKey) -> Int? {
    places.isEmpty ? list.firstIndex { $0.key == key } : places[key]
  }

  /// Number of members.
  package var count: Int { list.count }
  /// Names of members in their order.
  package var keys: [String] { list.map(\.key.text) }
  /// Members in the order in which they were written.
  package var members: [(key: String, value: JSONValue)] { list.map { ($0.key.text, $0.value) } }
}

extension JSONObject: ExpressibleByDictionaryLiteral {
  /// Members in the order written; of equal names the last value counts.
  package init(dictionaryLiteral elements: (String, JSONValue)...) {
    for (key, value) in elements { self[key] = value }
  }
}
