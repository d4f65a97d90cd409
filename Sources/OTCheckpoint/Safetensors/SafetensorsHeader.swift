import OTFoundation
import OTJSON
import OTTensor

/// Decodes and checks a header; all that it yields has passed every rule.
struct SafetensorsHeader {
  private(set) var tensors: [TensorView] = []
  private(set) var metadata: [String: String] = [:]

  private let mapping: MappedFile
  /// Offset of the data, which is the end of the header.
  private let dataStart: Int

  private struct Entry {
    let name: String
    let elementType: ElementType
    let shape: Shape
    /// Counted from the start of the data.
    let range: Range<Int>
    /// Place in the header.
    let index: Int
  }

  init(_ mapping: MappedFile, maximumTensorCount: Int) throws {
    self.mapping = mapping
    dataStart = try SafetensorsHeader.dataStart(mapping)
    let start = SafetensorsLimits.lengthByteCount
    // Member by member: json-c takes 50 bytes and more for a byte of hostile text.
    let reader = try JSONObjectReader(
      mapping.bytes(in: start..<dataStart),
      limits: JSONLimits(byteCount: SafetensorsLimits.headerByteCount, containerCount: .max), file: mapping.path,
      baseOffset: start)
    guard var reader else {
      throw Refusal(
        "safetensors-header-not-object", "the header is JSON but no object", file: mapping.path,
        byteOffset: start)
    }
    var entries: [Entry] = []
    var areAllASCII = true
    while let (name, offset) = try reader.next() {
      guard name != SafetensorsLimits.metadataKey else {
        metadata = try texts(&reader, at: offset)
        continue
      }
      guard entries.count < maximumTensorCount else {
        throw Refusal(
          "safetensors-tensor-count", "more than \(maximumTensorCount) tensors", file: mapping.path,
          byteOffset: offset)
      }
      let value = try reader.value(byteCount: SafetensorsLimits.entryByteCount)
      entries.append(try entry(name, value, at: offset, index: entries.count))
      areAllASCII = areAllASCII && name.utf8.allSatisfy { $0 < 0x80 }
    }
    if !areAllASCII { try checkLooks(entries) }
    try arrange(&entries)
    tensors = entries.map {
      TensorView(
        name: $0.name, elementType: $0.elementType, shape: $0.shape, file: mapping,
        byteOffset: dataStart + $0.range.lowerBound)
    }
  }

  private static func dataStart(_ mapping: MappedFile) throws -> Int {
    let lengthByteCount = SafetensorsLimits.lengthByteCount
    guard mapping.byteCount >= lengthByteCount else {
      throw Refusal(
        "safetensors-too-short",
        "has \(mapping.byteCount) bytes; the length of the header alone takes \(lengthByteCount)",
        file: mapping.path, byteOffset: 0, remedy: "download the file again")
    }
    let length = mapping.bytes.loadUnaligned(as: UInt64.self).littleEndian
    guard length <= UInt64(SafetensorsLimits.headerByteCount) else {
      throw Refusal(
        "safetensors-header-too-large",
        "a header of \(length) bytes exceeds \(SafetensorsLimits.headerByteCount); "
          + "is this a safetensors file?", file: mapping.path, byteOffset: 0)
    }
    guard length > 0 else {
      throw Refusal(
        "safetensors-header-empty", "the header has no bytes", file: mapping.path, byteOffset: 0)
    }
    // Fits: at most headerByteCount.
    let end = lengthByteCount + Int(length)
    guard end <= mapping.byteCount else {
      throw Refusal(
        "safetensors-header-past-end",
        "the header should end at byte \(end), the file ends at \(mapping.byteCount)",
        file: mapping.path, byteOffset: 0, remedy: "download the file again")
    }
    return end
  }

  // MARK: - Members

  private func texts(_ reader: inout JSONObjectReader, at offset: Int) throws -> [String: String] {
    guard let members = try reader.texts(count: SafetensorsLimits.metadataCount) else {
      throw Refusal(
        "safetensors-metadata", "__metadata__ is not an object of strings", file: mapping.path, byteOffset: offset)
    }
    return Dictionary(members.map { ($0.name, $0.text) }, uniquingKeysWith: { first, _ in first })
  }

  /// JSON tells names apart by their bytes; our dictionaries, and people, by what they look like.
  private func checkLooks(_ entries: [Entry]) throws {
    var names = Set<String>(minimumCapacity: entries.count)
    for entry in entries where !names.insert(entry.name).inserted {
      throw Refusal(
        "safetensors-name", "its name looks like another tensor's", file: mapping.path, tensor: entry.name,
        byteOffset: dataStart + entry.range.lowerBound)
    }
  }

  private func entry(_ name: String, _ value: JSONValue, at offset: Int, index: Int) throws -> Entry {
    func refusal(_ rule: String, _ message: String) -> Refusal {
      Refusal(rule, message, file: mapping.path, tensor: String(name.prefix(200)), byteOffset: offset)
    }
    if let fault = PrintableName.fault(of: name).map({ "a tensor's name \($0)" }) {
      throw refusal("safetensors-name", fault)
    }
    guard let object = value.object else {
      throw refusal("safetensors-entry-not-object", "is not described by an object")
    }
    for field in ["dtype", "shape", "data_offsets"] where object[field] == nil {
      throw refusal("safetensors-missing-field", "has no field '\(field)'")
    }
    guard let typeName = object["dtype"]?.string, let type = ElementType(rawValue: typeName) else {
      let text = object["dtype"]?.string.map { "'\($0.prefix(40))'" } ?? "not a string"
      throw refusal("safetensors-dtype", "has an unknown dtype: \(text)")
    }

    func integers(_ field: String) throws -> [Int] {
      guard let array = object[field]?.array else {
        throw refusal("safetensors-field-not-list", "'\(field)' is not a list")
      }
      return try array.map {
        guard let integer = $0.integer, integer >= 0 else {
          throw refusal(
            "safetensors-integer", "'\(field)' holds something that is not a non-negative integer")
        }
        return integer
      }
    }
    let dimensions = try integers("shape")
    guard dimensions.count <= Shape.maximumRank else {
      throw refusal(
        "safetensors-rank", "\(dimensions.count) dimensions are more than \(Shape.maximumRank)")
    }
    guard let shape = Shape(dimensions),
      let bitCount = shape.elementCount.multipliedChecked(by: type.bitWidth)
    else {
      throw refusal(
        "safetensors-shape-overflow", "the size of shape \(dimensions) does not fit in 63 bits")
    }
    guard bitCount % 8 == 0 else {
      throw refusal(
        "safetensors-sub-byte",
        "\(shape.elementCount) elements of \(type.bitWidth) bits do not fill whole bytes")
    }

    let offsets = try integers("data_offsets")
    guard offsets.count == 2 else {
      throw refusal("safetensors-offset-count", "'data_offsets' has \(offsets.count) values, not 2")
    }
    let (begin, end) = (offsets[0], offsets[1])
    guard begin <= end else {
      throw refusal("safetensors-offsets-reversed", "its data begin at \(begin) and end at \(end)")
    }
    let dataByteCount = mapping.byteCount - dataStart
    guard end <= dataByteCount else {
      var refusal = refusal(
        "safetensors-data-past-end",
        "its data end at byte \(end) of the data, which end at \(dataByteCount)")
      refusal.byteOffset = mapping.byteCount
      refusal.remedy = "the file is cut off: download it again"
      throw refusal
    }
    guard bitCount / 8 == end - begin else {
      throw refusal(
        "safetensors-size-mismatch",
        "\(type.rawValue) of shape \(shape) takes \(bitCount / 8) bytes, "
          + "its data have \(end - begin)")
    }
    return Entry(name: name, elementType: type, shape: shape, range: begin..<end, index: index)
  }

  // MARK: - Data

  /// Puts the entries in the order of their data, which they must tile exactly.
  private func arrange(_ entries: inout [Entry]) throws {
    // By index last, so that empty tensors in one place keep the header's order.
    entries.sort {
      ($0.range.lowerBound, $0.range.upperBound, $0.index) < ($1.range.lowerBound, $1.range.upperBound, $1.index)
    }
    var expected = 0
    var previous: Entry?
    for entry in entries {
      func refusal(_ rule: String, _ message: String) -> Refusal {
        Refusal(
          rule, message, file: mapping.path, tensor: entry.name,
          byteOffset: dataStart + entry.range.lowerBound)
      }
      if entry.range.lowerBound > expected {
        throw refusal(
          "safetensors-hole",
          "\(entry.range.lowerBound - expected) bytes before its data belong to no tensor")
      }
      if entry.range.lowerBound < expected {
        throw refusal(
          "safetensors-overlap", "its data overlap those of '\(previous?.name ?? "")'")
      }
      expected = entry.range.upperBound
      previous = entry
    }
    let end = dataStart + expected
    guard end == mapping.byteCount else {
      throw Refusal(
        "safetensors-trailing-bytes",
        "\(mapping.byteCount - end) bytes after the last tensor belong to none",
        file: mapping.path, byteOffset: end)
    }
  }
}
