import OTFoundation
import OTJSON
import OTTensor

/// Writes a safetensors file, tensor after tensor, without holding any of them.
///
/// The header lists the tensors in the order given and their data follow in
/// that order, so equal input gives equal bytes. The file appears under its
/// name only with `commit()`: see `AtomicFile`.
///
///     var writer = try SafetensorsWriter(
///       path: "model.safetensors",
///       entries: [.init(name: "weight", elementType: .f32, shape: shape)])
///     try writer.append(rows)
///     try writer.commit()
package struct SafetensorsWriter: ~Copyable {
  /// A tensor to be written.
  package struct Entry: Sendable, Hashable {
    /// Unique within the file.
    package let name: String
    /// The type of the elements.
    package let elementType: ElementType
    /// The dimensions, outermost first.
    package let shape: Shape

    /// Describes a tensor; the writer judges whether it can be written.
    package init(name: String, elementType: ElementType, shape: Shape) {
      self.name = name
      self.elementType = elementType
      self.shape = shape
    }

    /// Bytes of its elements; 0 for what the writer refuses.
    package var byteCount: Int { elementType.byteCount(elementCount: shape.elementCount) ?? 0 }

    /// `entries` with wide elements first, then by name, as the reference
    /// implementation writes them: every tensor is then aligned to its elements.
    package static func aligned(_ entries: [Entry]) -> [Entry] {
      entries.sorted {
        $0.elementType.bitWidth == $1.elementType.bitWidth
          ? $0.name.utf8.lexicographicallyPrecedes($1.name.utf8)
          : $0.elementType.bitWidth > $1.elementType.bitWidth
      }
    }
  }

  /// Bytes of the whole file.
  package let byteCount: Int
  private let file: AtomicFile
  /// The bytes of each tensor in the file.
  private let places: [String: Range<Int>]

  /// Writes the header.
  ///
  /// - Parameters:
  ///   - entries: the tensors in the order in which their data will come.
  ///   - metadata: texts for `__metadata__`, written in the order of their keys.
  ///   - force: whether an existing file is replaced.
  ///   - inputs: files that must not be overwritten.
  /// - Throws: `Refusal` with a rule `output-…`, or the reader's rule that the
  ///   file would break.
  package init(
    path: String, entries: [Entry], metadata: [String: String] = ["format": "pt"],
    force: Bool = false, inputs: [FileIdentity] = []
  ) throws {
    let (header, dataByteCount) = try SafetensorsWriter.header(path, entries, metadata)
    var places: [String: Range<Int>] = [:]
    var position = header.count
    for entry in entries {
      let end = position + entry.byteCount
      places[entry.name] = position..<end
      position = end
    }
    guard let byteCount = header.count.addingChecked(dataByteCount) else {
      throw Refusal("safetensors-shape-overflow", "the tensors take too many bytes", file: path)
    }
    let file = try AtomicFile(path: path, force: force, inputs: inputs)
    try file.append(header)
    self.byteCount = byteCount
    self.file = file
    self.places = places
  }

  /// Writes the next bytes of the tensors' data: whole tensors or parts,
  /// row-major and little-endian.
  ///
  /// - Precondition: the tensors have room for them.
  /// - Throws: `Refusal` with rule `output-write-failed`.
  package mutating func append(_ bytes: UnsafeRawBufferPointer) throws {
    precondition(bytes.count <= byteCount - file.byteCount, "more bytes than the tensors take")
    try file.append(bytes)
  }

  /// Writes the next bytes of the tensors' data.
  ///
  /// - Precondition: the tensors have room for them.
  /// - Throws: as `append(_:)` of a buffer.
  package mutating func append(_ bytes: [UInt8]) throws {
    try bytes.withUnsafeBytes { try append($0) }
  }

  /// Writes all elements of `view`, about 4 MiB at a time.
  ///
  /// - Precondition: the tensors have room for them.
  /// - Throws: as `append(_:)` of a buffer.
  package mutating func append(_ view: TensorView) throws {
    let blockByteCount = 4 << 20
    guard view.shape.elementCount > 0 else { return }
    if view.isContiguous {
      // By bytes: rows of elements narrower than a byte may share one.
      let end = view.byteOffset + view.byteCount
      for start in stride(from: view.byteOffset, to: end, by: blockByteCount) {
        let range = start..<min(start + blockByteCount, end)
        try append(view.file.bytes(in: range))
        view.file.release(range)
      }
      return
    }
    let rowByteCount = max(view.shape.rowElementCount * view.elementType.bitWidth / 8, 1)
    let blockRowCount = max(blockByteCount / rowByteCount, 1)
    for start in stride(from: 0, to: view.shape.rowCount, by: blockRowCount) {
      let rows = start..<min(start + blockRowCount, view.shape.rowCount)
      try view.withRowBytes(rows) { try append($0) }
    }
  }

  /// Makes room for the data of all tensors, which then come by `put` in any order.
  ///
  /// - Precondition: nothing has been appended.
  /// - Throws: `Refusal` with rule `output-write-failed`.
  package mutating func reserve() throws { try file.extend(to: byteCount) }

  /// Writes bytes of the tensor called `name`, from its byte `offset` on.
  ///
  /// - Precondition: `reserve` has been called, and the tensor has these bytes.
  /// - Throws: `Refusal` with rule `output-write-failed`.
  package mutating func put(_ bytes: UnsafeRawBufferPointer, of name: String, at offset: Int) throws {
    guard let place = places[name], offset >= 0, bytes.count <= place.count - offset else {
      preconditionFailure("'\(name)' has no such bytes")
    }
    try file.write(bytes, at: place.lowerBound + offset)
  }

  /// Makes the file durable and gives it its name.
  ///
  /// - Precondition: all data have been written.
  /// - Throws: `Refusal` with a rule `output-…`.
  package consuming func commit(_ willName: ((FileIdentity) throws -> Void)? = nil) throws {
    precondition(file.byteCount == byteCount, "data of tensors are missing")
    try file.commit(willName)
  }

  private static func header(
    _ path: String, _ entries: [Entry], _ metadata: [String: String]
  ) throws -> (bytes: [UInt8], dataByteCount: Int) {
    guard entries.count <= SafetensorsLimits.tensorCount else {
      throw Refusal(
        "safetensors-tensor-count",
        "\(entries.count) tensors are more than \(SafetensorsLimits.tensorCount)", file: path)
    }
    var root = JSONObject()
    if !metadata.isEmpty {
      var texts = JSONObject()
      for key in metadata.keys.sorted(by: { $0.utf8.lexicographicallyPrecedes($1.utf8) }) {
        guard !key.utf8.contains(0) else {
          throw Refusal("safetensors-metadata", "a key of __metadata__ contains NUL", file: path)
        }
        texts[key] = metadata[key].map { .string($0) }
      }
      root[SafetensorsLimits.metadataKey] = .object(texts)
    }
    var position = 0
    for entry in entries {
      func refusal(_ rule: String, _ message: String) -> Refusal {
        Refusal(rule, message, file: path, tensor: entry.name)
      }
      if let fault = PrintableName.fault(of: entry.name).map({ "a tensor's name \($0)" }) {
        throw refusal("safetensors-name", fault)
      }
      guard entry.name != SafetensorsLimits.metadataKey, root[entry.name] == nil else {
        throw refusal("safetensors-name", "the name is taken")
      }
      guard let bits = entry.shape.elementCount.multipliedChecked(by: entry.elementType.bitWidth),
        let end = position.addingChecked(bits / 8)
      else { throw refusal("safetensors-shape-overflow", "the tensors take too many bytes") }
      guard bits % 8 == 0 else {
        throw refusal(
          "safetensors-sub-byte",
          "\(entry.shape.elementCount) elements of \(entry.elementType.bitWidth) bits "
            + "do not fill whole bytes")
      }
      root[entry.name] = .object([
        "dtype": .string(entry.elementType.rawValue),
        "shape": .array(entry.shape.dimensions.map { .integer($0) }),
        "data_offsets": .array([.integer(position), .integer(end)]),
      ])
      position = end
    }
    var text = Array(JSONValue.object(root).text().utf8)
    // Spaces, so that the data begin at a multiple of 8.
    while text.count % SafetensorsLimits.alignment != 0 { text.append(UInt8(ascii: " ")) }
    guard text.count <= SafetensorsLimits.headerByteCount else {
      throw Refusal(
        "safetensors-header-too-large",
        "a header of \(text.count) bytes exceeds \(SafetensorsLimits.headerByteCount)", file: path)
    }
    let length = withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) }
    return (length + text, position)
  }
}
