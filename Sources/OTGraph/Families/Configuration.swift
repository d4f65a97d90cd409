import OTFoundation
import OTJSON

/// The members of config.json that a family reads, with their ranges checked.
///
/// It keeps which ones have been read: the others, of which the family knows nothing, must not be able to
/// change the model (`checkMembers`).
struct Configuration {
  private let json: JSONValue?
  /// The path of config.json, for refusals.
  let file: String?
  private let read = ReadNames()

  private final class ReadNames {
    var names: Set<String> = []
  }

  init(_ json: JSONValue?, file: String?) throws {
    self.json = json
    self.file = file
    if let json, json.object == nil { throw refusal("config.json is not an object") }
  }

  /// True when there is a configuration at all.
  var isPresent: Bool { json != nil }

  func refusal(_ message: String) -> Refusal {
    Refusal("family-configuration", message, file: file, remedy: Families.withoutGraph)
  }

  /// The member, unless it is absent or null.
  func value(_ key: String) -> JSONValue? {
    read.names.insert(key)
    guard let value = json?[key], value != .null else { return nil }
    return value
  }

  /// The members that nobody has asked for.
  var unreadMembers: [(key: String, value: JSONValue)] {
    json?.object?.members.filter { !read.names.contains($0.key) } ?? []
  }

  /// True when the member is there, be it null.
  func contains(_ key: String) -> Bool {
    read.names.insert(key)
    return json?[key] != nil
  }

  /// A count or size in 1...2^31.
  func size(_ keys: String...) throws -> Int? {
    read.names.formUnion(keys)
    for key in keys {
      guard let value = value(key) else { continue }
      guard let size = value.integer, (1...GraphValidation.maximumSize).contains(size) else {
        throw refusal("'\(key)' is not an integer in 1...2^31")
      }
      return size
    }
    return nil
  }

  func flag(_ key: String) throws -> Bool? {
    guard let value = value(key) else { return nil }
    guard let flag = value.bool else { throw refusal("'\(key)' is neither true nor false") }
    return flag
  }

  func text(_ key: String) throws -> String? {
    guard let value = value(key) else { return nil }
    guard let text = value.string else { throw refusal("'\(key)' is not a string") }
    return text
  }

  /// A finite number that is positive, or not negative with `allowsZero`.
  func number(_ key: String, in object: JSONValue? = nil, allowsZero: Bool = false) throws
    -> Double?
  {
    let found = object.map { $0[key] } ?? value(key)
    guard let value = found, value != .null else { return nil }
    guard let number = value.double, number.isFinite, number > 0 || (allowsZero && number == 0)
    else { throw refusal("'\(key)' is not a positive number") }
    return number
  }

  func epsilon(_ key: String) throws -> Float? {
    guard let number = try number(key, allowsZero: true) else { return nil }
    let epsilon = Float(number)
    guard epsilon.isFinite else { throw refusal("'\(key)' is too large") }
    return epsilon
  }

  /// Requires that there is a configuration.
  ///
  /// - Throws: `Refusal` (`family-configuration`).
  func require(family: String) throws {
    guard isPresent else {
      throw Refusal(
        "family-configuration", "the tensors do not tell what a model of the family '\(family)' computes", file: file,
        remedy: "put the model's config.json beside the checkpoint; \(Families.withoutGraph)")
    }
  }

  /// Refuses another value of `key` than these, which change nothing; null and absence are fine.
  ///
  /// - Throws: `Refusal` (`family-configuration`).
  func expect(_ key: String, _ values: JSONValue...) throws {
    guard let value = value(key), !values.contains(value) else { return }
    throw refusal("'\(key)' is not supported as it is")
  }

  /// Refuses another number at `other` than at `key`, where it is `usual` if it is absent.
  ///
  /// - Throws: `Refusal` (`family-configuration`).
  func expectSame(as key: String, usual: Double, _ other: String) throws {
    let number = try number(key, allowsZero: true) ?? usual
    guard try self.number(other, allowsZero: true) ?? number == number else {
      throw refusal("'\(key)' and '\(other)' contradict each other")
    }
  }

  /// The activation called by the member `key`.
  func activation(_ key: String) throws -> ActivationKind? {
    guard let name = try text(key) else { return nil }
    switch name {
    case "relu": return .relu
    case "gelu": return .gelu
    case "gelu_new", "gelu_pytorch_tanh", "gelu_fast": return .geluTanh
    case "silu", "swish": return .silu
    case "tanh": return .tanh
    default: throw refusal("the activation '\(name)' is not supported")
    }
  }

  /// `quotient = size / count`, which must be whole.
  func quotient(_ size: Int, _ count: Int, _ what: String) throws -> Int {
    guard size % count == 0 else {
      throw refusal("\(size) channels cannot be divided among \(count) \(what)")
    }
    return size / count
  }
}
