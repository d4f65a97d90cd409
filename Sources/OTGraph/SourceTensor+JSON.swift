import OTFoundation
import OTJSON
import OTTensor

extension SourceTensor {
  /// A name, or an object `{transposed}`, `{rows, first, count}`, `{element, index}`, `{plus, constant}`,
  /// `{columns, channels}` or `{columns, without}`.
  var json: JSONValue {
    switch self {
    case .named(let name): .string(name)
    case .transposed(let source): .object(["transposed": source.json])
    case .rows(let source, let rows):
      .object(["rows": source.json, "first": .integer(rows.lowerBound), "count": .integer(rows.count)])
    case .element(let source, let index): .object(["element": source.json, "index": .integer(index)])
    case .columns(let source, let columns): .object(columns.added(to: ["columns": source.json]))
    case .plus(let source, let constant): .object(["plus": source.json, "constant": .number(Double(constant))])
    }
  }

  /// The most that one may be made of another.
  private static let maximumDepth = 8

  init(json: JSONValue, reader: GraphReader, depth: Int = 0) throws {
    if let name = json.string {
      self = .named(name)
      return
    }
    guard let object = json.object, depth < SourceTensor.maximumDepth else {
      throw reader.refusal("a tensor is neither a name nor made of one")
    }
    func inner(_ key: String) throws -> SourceTensor? {
      try object[key].map { try SourceTensor(json: $0, reader: reader, depth: depth + 1) }
    }
    func size(_ key: String) throws -> Int {
      guard let value = object[key]?.integer, (0...GraphValidation.maximumSize).contains(value) else {
        throw reader.refusal("'\(key)' of a tensor is not in 0...2^31")
      }
      return value
    }
    if let source = try inner("transposed") {
      self = .transposed(source)
    } else if let source = try inner("rows") {
      let first = try size("first")
      self = .rows(of: source, first..<first + (try size("count")))
    } else if let source = try inner("element") {
      self = .element(of: source, try size("index"))
    } else if let source = try inner("columns") {
      let columns = try ChannelChoice(json: object["channels"], rest: object["without"]) { reader.refusal($0) }
      self = .columns(of: source, columns)
    } else if let source = try inner("plus") {
      guard let constant = object["constant"]?.double, Float(constant).isFinite else {
        throw reader.refusal("the constant of a tensor is not a number")
      }
      self = .plus(source, Float(constant))
    } else {
      throw reader.refusal("a tensor is neither a name nor made of one")
    }
  }
}

extension GraphReader {
  func tensor(_ key: String) throws -> SourceTensor {
    guard let tensor = try optionalTensor(key) else { throw refusal("'\(key)' is missing") }
    return tensor
  }

  /// A list of tensors; an empty one where it is absent.
  func tensors(_ key: String) throws -> [SourceTensor] {
    try elements(key, isOptional: true).map { try SourceTensor(json: $0, reader: self) }
  }

  func optionalTensor(_ key: String) throws -> SourceTensor? {
    try json(key).map { try SourceTensor(json: $0, reader: self) }
  }
}
