import OTFoundation
import OTJSON

/// One object of a tokenizer.json, with its place in the file for errors.
///
/// Rules of its refusals: `tokenizer-syntax` for a member that is missing or
/// of the wrong kind, `tokenizer-unsupported` for what this package does not
/// implement, `tokenizer-vocabulary` for tokens that contradict each other.
struct TokenizerSection {
  let json: JSONValue
  /// Path of the section: `pre_tokenizer.pretokenizers[1]`.
  let path: String
  /// The file, for errors.
  let file: String

  /// The member `type`, which says what component this is.
  var type: String {
    get throws { try string("type") }
  }

  func refusal(_ rule: String, _ message: String) -> Refusal {
    Refusal(rule, path.isEmpty ? message : "\(path): \(message)", file: file)
  }

  func unsupported(_ what: String) -> Refusal {
    refusal("tokenizer-unsupported", "\(what) is not supported")
  }

  /// The member, nil when it is absent or null.
  func optional(_ key: String) -> TokenizerSection? {
    guard let value = json[key], value != .null else { return nil }
    let inner = path.isEmpty ? key : "\(path).\(key)"
    return TokenizerSection(json: value, path: inner, file: file)
  }

  func section(_ key: String) throws -> TokenizerSection {
    guard let section = optional(key) else {
      throw refusal("tokenizer-syntax", "member '\(key)' is missing")
    }
    return section
  }

  func sections(_ key: String) throws -> [TokenizerSection] {
    let list = try section(key)
    guard let values = list.json.array else {
      throw list.refusal("tokenizer-syntax", "is not a list")
    }
    return values.enumerated().map {
      TokenizerSection(json: $1, path: "\(list.path)[\($0)]", file: file)
    }
  }

  func object(_ key: String) throws -> JSONObject {
    let value = try section(key)
    guard let object = value.json.object else {
      throw value.refusal("tokenizer-syntax", "is not an object")
    }
    return object
  }

  func string(_ key: String) throws -> String {
    let value = try section(key)
    guard let string = value.json.string else {
      throw value.refusal("tokenizer-syntax", "is not a string")
    }
    return string
  }

  func scalars(_ key: String) throws -> [Unicode.Scalar] {
    Array(try string(key).unicodeScalars)
  }

  func scalar(_ key: String) throws -> Unicode.Scalar {
    let scalars = try scalars(key)
    guard scalars.count == 1 else {
      throw refusal("tokenizer-syntax", "'\(key)' is not one character")
    }
    return scalars[0]
  }

  func optionalString(_ key: String) throws -> String? {
    try optional(key) == nil ? nil : string(key)
  }

  func bool(_ key: String, default fallback: Bool) throws -> Bool {
    guard let value = optional(key) else { return fallback }
    guard let bool = value.json.bool else {
      throw value.refusal("tokenizer-syntax", "is neither true nor false")
    }
    return bool
  }

  /// A number that is not negative and fits in 31 bits.
  func count(_ key: String, default fallback: Int? = nil) throws -> Int {
    if let fallback, optional(key) == nil { return fallback }
    let value = try section(key)
    guard let count = value.json.integer, (0...Int(Int32.max)).contains(count) else {
      throw value.refusal("tokenizer-syntax", "is not a number from 0 to \(Int32.max)")
    }
    return count
  }
}
