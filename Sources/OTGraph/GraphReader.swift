import OTFoundation
import OTJSON

/// Reads the members of one JSON object of a graph, refusing what is of the wrong type.
struct GraphReader {
  private let object: JSONObject
  private let place: String
  private let file: String?

  init(_ json: JSONValue, in place: String, file: String?) throws {
    self.place = place
    self.file = file
    guard let object = json.object else {
      throw Refusal("graph-json", "\(place) is not an object", file: file)
    }
    self.object = object
  }

  func refusal(_ message: String) -> Refusal {
    Refusal("graph-json", "\(place): \(message)", file: file)
  }

  private func value(_ key: String) -> JSONValue? {
    object[key].flatMap { $0 == .null ? nil : $0 }
  }

  func json(_ key: String) -> JSONValue? { value(key) }

  func has(_ key: String) -> Bool { value(key) != nil }

  func string(_ key: String) throws -> String {
    guard let value = value(key)?.string else { throw refusal("'\(key)' is not a string") }
    return value
  }

  func integer(_ key: String) throws -> Int {
    guard let value = value(key)?.integer else { throw refusal("'\(key)' is not an integer") }
    return value
  }

  func optionalInteger(_ key: String) throws -> Int? { value(key) == nil ? nil : try integer(key) }

  func optionalSize(_ key: String) throws -> Int? {
    guard value(key) != nil else { return nil }
    let size = try integer(key)
    guard (1...GraphValidation.maximumSize).contains(size) else {
      throw refusal("'\(key)' is not in 1...2^31")
    }
    return size
  }

  func number(_ key: String) throws -> Double {
    guard let value = value(key)?.double else { throw refusal("'\(key)' is not a number") }
    return value
  }

  func numbers(_ key: String) throws -> [Double] {
    try elements(key).map {
      guard let number = $0.double else { throw refusal("'\(key)' has an entry that is not a number") }
      return number
    }
  }

  func integers(_ key: String) throws -> [Int] {
    try elements(key).map {
      guard let integer = $0.integer else { throw refusal("'\(key)' has an entry that is not an integer") }
      return integer
    }
  }

  func flag(_ key: String) throws -> Bool {
    guard let value = value(key)?.bool else { throw refusal("'\(key)' is neither true nor false") }
    return value
  }

  func elements(_ key: String, isOptional: Bool = false) throws -> [JSONValue] {
    if isOptional && value(key) == nil { return [] }
    guard let value = value(key)?.array else { throw refusal("'\(key)' is not an array") }
    return value
  }

  func strings(_ key: String, isOptional: Bool = false) throws -> [String] {
    try elements(key, isOptional: isOptional).map {
      guard let string = $0.string else { throw refusal("'\(key)' has an entry that is not a string") }
      return string
    }
  }

  func members(_ key: String) throws -> [(key: String, value: JSONValue)] {
    guard let value = value(key)?.object else { throw refusal("'\(key)' is not an object") }
    // JSON tells names apart by their bytes, our dictionaries by what they look like.
    guard Set(value.keys).count == value.count else { throw refusal("'\(key)' has two names that look alike") }
    return value.members
  }

  func child(_ key: String) throws -> GraphReader {
    guard let value = value(key) else { throw refusal("'\(key)' is missing") }
    return try GraphReader(value, in: "\(place), \(key)", file: file)
  }
}

extension Float {
  /// The double with the fewest digits that reads back as this.
  var shortestDouble: Double {
    if let short = Double("\(self)"), Float(short) == self { return short }
    return Double(self)
  }
}
