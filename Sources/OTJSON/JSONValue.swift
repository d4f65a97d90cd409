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

/// The members of a JSON object, in order, with constant-time look-up.
///
/// Names that differ in any byte are different members.
package struct JSONObject: Sendable, Hashable {
  private var names = JSONNames()
  /// The value of each name.
  private var values: [JSONValue] = []

  /// An object without members.
  package init() {}

  /// The value of a member; nil when there is none, and setting nil removes it.
  package subscript(key: String) -> JSONValue? {
    get { names.place(of: key).map { values[$0] } }
    set {
      if let newValue {
        if let place = names.insert(key) { values[place] = newValue } else { values.append(newValue) }
      } else if let place = names.place(of: key) {
        names.remove(at: place)
        values.remove(at: place)
      }
    }
  }

  /// Number of members.
  package var count: Int { values.count }
  /// Names of members in their order.
  package var keys: [String] { names.list }
  /// Members in the order in which they were written.
  package var members: [(key: String, value: JSONValue)] { zip(names.list, values).map { ($0, $1) } }
}

extension JSONObject: ExpressibleByDictionaryLiteral {
  /// Members in the order written; of equal names the last value counts.
  package init(dictionaryLiteral elements: (String, JSONValue)...) {
    for (key, value) in elements { self[key] = value }
  }
}
