import OTFoundation
import OTTensor

/// Writes a GGUF file (version 3), whose tensors' bytes come in any order.
///
/// Integers become u32 and numbers f32, lists of them i32 and f32. The file appears under its name only with
/// `commit()`: see `AtomicFile`.
package struct GGUFWriter: ~Copyable {
  /// A tensor to be written.
  package struct Entry: Sendable, Hashable {
    /// Unique within the file.
    package let name: String
    /// The dimensions, outermost first.
    package let shape: Shape
    /// The type of the elements.
    package let type: GGUFType

    /// A tensor as given.
    package init(name: String, shape: Shape, type: GGUFType) {
      (self.name, self.shape, self.type) = (name, shape, type)
    }

    /// Bytes of the elements.
    package var byteCount: Int { shape.elementCount / type.blockElementCount * type.blockByteCount }
  }

  private let file: AtomicFile
  private let places: [String: Range<Int>]

  /// Writes the header.
  ///
  /// - Throws: `Refusal` with a rule `output-…`, or `gguf-name`, `gguf-shape` or `gguf-tensor-twice` for a tensor
  ///   that no file can have.
  package init(
    path: String, keys: [(name: String, value: GGUFValue)], tensors: [Entry], force: Bool = false,
    inputs: [FileIdentity] = []
  ) throws {
    let (header, places, byteCount) = try GGUFWriter.header(path, keys, tensors)
    let file = try AtomicFile(path: path, force: force, inputs: inputs)
    try file.append(header)
    try file.extend(to: byteCount)
    self.file = file
    self.places = places
  }

  private static func header(
    _ path: String, _ keys: [(name: String, value: GGUFValue)], _ tensors: [Entry]
  ) throws -> (bytes: [UInt8], places: [String: Range<Int>], byteCount: Int) {
    var header = GGUFBytes()
    header.content += Array("GGUF".utf8)
    header.word(3)
    header.long(tensors.count)
    header.long(keys.count)
    for (name, value) in keys {
      header.string(name)
      header.value(value)
    }
    var offset = 0
    var offsets: [Int] = []
    var names: Set<String> = []
    for tensor in tensors {
      func refusal(_ rule: String, _ message: String) -> Refusal {
        Refusal(rule, message, file: path, tensor: tensor.name)
      }
      guard names.insert(tensor.name).inserted else { throw refusal("gguf-tensor-twice", "is there twice") }
      // llama.cpp's own limit.
      guard tensor.name.utf8.count < 64 else { throw refusal("gguf-name", "has a name of more than 63 bytes") }
      guard (1...GGUFLimits.rank).contains(tensor.shape.rank), tensor.shape.elementCount > 0 else {
        throw refusal("gguf-shape", "has the shape \(tensor.shape), which no file has")
      }
      header.string(tensor.name)
      header.word(tensor.shape.rank)
      for dimension in tensor.shape.dimensions.reversed() { header.long(dimension) }
      header.word(tensor.type.rawValue)
      header.long(offset)
      offsets.append(offset)
      guard let end = offset.addingChecked(tensor.byteCount) else {
        throw refusal("gguf-shape", "takes too many bytes")
      }
      offset = end.roundedUp(toMultipleOf: GGUFLimits.alignment)
    }
    while header.content.count % GGUFLimits.alignment != 0 { header.content.append(0) }
    let start = header.content.count
    var places: [String: Range<Int>] = [:]
    for (tensor, offset) in zip(tensors, offsets) {
      places[tensor.name] = start + offset..<start + offset + tensor.byteCount
    }
    return (header.content, places, start + offset)
  }

  /// Writes bytes of the tensor called `name`, from its byte `offset` on.
  ///
  /// - Precondition: the tensor has these bytes.
  /// - Throws: `Refusal` with rule `output-write-failed`.
  package mutating func put(_ bytes: UnsafeRawBufferPointer, of name: String, at offset: Int) throws {
    guard let place = places[name], offset >= 0, bytes.count <= place.count - offset else {
      preconditionFailure("'\(name)' has no such bytes")
    }
    try file.write(bytes, at: place.lowerBound + offset)
  }

  /// Makes the file durable and gives it its name.
  ///
  /// - Throws: `Refusal` with a rule `output-…`.
  package consuming func commit() throws { try file.commit() }
}

/// The header of a file, byte by byte.
private struct GGUFBytes {
  var content: [UInt8] = []

  mutating func word(_ value: Int) { append(UInt32(truncatingIfNeeded: value)) }
  mutating func long(_ value: Int) { append(UInt64(truncatingIfNeeded: value)) }

  private mutating func append(_ value: some FixedWidthInteger) {
    withUnsafeBytes(of: value.littleEndian) { content += $0 }
  }

  mutating func string(_ text: String) {
    long(text.utf8.count)
    content += Array(text.utf8)
  }

  mutating func value(_ value: GGUFValue) {
    func list<Element>(_ type: Int, _ values: [Element], _ put: (inout GGUFBytes, Element) -> Void) {
      word(9)
      word(type)
      long(values.count)
      for value in values { put(&self, value) }
    }
    switch value {
    case .integer(let value):
      word(4)
      word(value)
    case .number(let value):
      word(6)
      append(Float(value).bitPattern)
    case .bool(let value):
      word(7)
      content.append(value ? 1 : 0)
    case .string(let value):
      word(8)
      string(value)
    case .integers(let values): list(5, values) { $0.word($1) }
    case .numbers(let values): list(6, values) { $0.append(Float($1).bitPattern) }
    case .bools(let values): list(7, values) { $0.content.append($1 ? 1 : 0) }
    case .strings(let values): list(8, values) { $0.string($1) }
    }
  }
}
