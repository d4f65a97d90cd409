import OTFoundation
import OTTensor

/// Decodes and checks the header of a GGUF file; all that it yields has passed every rule.
struct GGUFHeader {
  private let file: MappedFile
  private var cursor: FileCursor
  /// Elements of lists that may still come.
  private var elementBudget = GGUFLimits.elementCount

  init(_ file: MappedFile) {
    self.file = file
    cursor = FileCursor(file, 0..<file.byteCount)
  }

  /// The keys' values and the tensors.
  mutating func read() throws -> (values: [String: GGUFValue], tensors: [GGUFFile.Tensor]) {
    // "GGUF", which told the reader.
    _ = try next { $0.take(4) }
    let version = try next { $0.word() }
    guard version == 2 || version == 3 else {
      let isSwapped = version > 0 && version % 0x100_0000 == 0
      throw refusal(
        "gguf-version",
        isSwapped
          ? "is a file for machines that store numbers the other way round" : "version \(version) is not 2 or 3",
        remedy: "convert it anew, with a current llama.cpp")
    }
    let tensorCount = try next { $0.long() }
    let keyCount = try next { $0.long() }
    guard tensorCount <= GGUFLimits.tensorCount else {
      throw refusal("gguf-count", "\(tensorCount) tensors are more than \(GGUFLimits.tensorCount)")
    }
    guard keyCount <= GGUFLimits.keyCount else {
      throw refusal("gguf-count", "\(keyCount) keys are more than \(GGUFLimits.keyCount)")
    }
    var values: [String: GGUFValue] = [:]
    for _ in 0..<keyCount {
      let name = try name("a key")
      guard values.updateValue(try value(of: name), forKey: name) == nil else {
        throw refusal("gguf-key-twice", "has the key '\(name)' twice")
      }
    }
    var infos: [Info] = []
    var names: Set<String> = []
    for _ in 0..<tensorCount {
      let info = try info()
      guard names.insert(info.name).inserted else {
        throw refusal("gguf-tensor-twice", "is there twice, or looks like another", tensor: info.name)
      }
      infos.append(info)
    }
    return (values, try place(infos, alignment: alignment(values)))
  }

  private func refusal(_ rule: String, _ message: String, tensor: String? = nil, remedy: String? = nil) -> Refusal {
    Refusal(rule, message, file: file.path, tensor: tensor, byteOffset: cursor.position, remedy: remedy)
  }

  /// What `read` gives of the cursor; it must be there.
  private mutating func next<Value>(_ read: (inout FileCursor) -> Value?) throws -> Value {
    guard let value = read(&cursor) else {
      throw refusal(
        "gguf-truncated", "the header ends within a number or text, or counts more than any file has",
        remedy: "download the file again")
    }
    return value
  }

  // MARK: - Keys

  private mutating func name(_ what: String) throws -> String {
    let text = try string(atMost: GGUFLimits.nameByteCount)
    if let fault = PrintableName.fault(of: text) { throw refusal("gguf-name", "the name of \(what) \(fault)") }
    return text
  }

  private mutating func string(atMost limit: Int = GGUFLimits.stringByteCount) throws -> String {
    let count = try next { $0.long() }
    guard count <= limit else { throw refusal("gguf-string", "a text of \(count) bytes is longer than \(limit)") }
    let bytes = try next { $0.take(count) }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw refusal("gguf-string", "a text is not UTF-8")
    }
    return text
  }

  private mutating func value(of key: String) throws -> GGUFValue {
    let type = try next { $0.word() }
    guard type == 9 else { return try scalar(type, key) }
    let inner = try next { $0.word() }
    let count = try next { $0.long() }
    guard count <= elementBudget else {
      throw refusal("gguf-list", "'\(key)' and the lists before it have more than \(GGUFLimits.elementCount) elements")
    }
    elementBudget -= count
    switch inner {
    case 0...5, 10, 11: return .integers(try list(count) { try $0.integer(inner, key) })
    case 6, 12: return .numbers(try list(count) { try $0.number(inner) })
    case 7: return .bools(try list(count) { try $0.flag(key) })
    case 8: return .strings(try list(count) { try $0.string() })
    default: throw refusal("gguf-type", "'\(key)' is a list of elements of type \(inner)")
    }
  }

  private mutating func list<Value>(_ count: Int, _ element: (inout GGUFHeader) throws -> Value) throws -> [Value] {
    var values: [Value] = []
    // Not reserved: the file only claims the count.
    for _ in 0..<count { values.append(try element(&self)) }
    return values
  }

  private mutating func scalar(_ type: Int, _ key: String) throws -> GGUFValue {
    switch type {
    case 0...5, 10, 11: return .integer(try integer(type, key))
    case 6, 12: return .number(try number(type))
    case 7: return .bool(try flag(key))
    case 8: return .string(try string())
    default: throw refusal("gguf-type", "'\(key)' is of type \(type), which is none of GGUF's")
    }
  }

  private mutating func integer(_ type: Int, _ key: String) throws -> Int {
    switch type {
    case 0: return Int(try next { $0.byte() })
    case 1: return Int(Int8(bitPattern: try next { $0.byte() }))
    case 2: return try next { $0.half() }
    case 3: return Int(Int16(truncatingIfNeeded: try next { $0.half() }))
    case 4: return try next { $0.word() }
    case 5: return Int(Int32(truncatingIfNeeded: try next { $0.word() }))
    case 11: return Int(truncatingIfNeeded: try next { $0.unsigned(8) })
    default:
      guard let value = Int(exactly: try next { $0.unsigned(8) }) else {
        throw refusal("gguf-integer", "'\(key)' does not fit in 63 bits")
      }
      return value
    }
  }

  private mutating func number(_ type: Int) throws -> Double {
    type == 6
      ? Double(Float(bitPattern: UInt32(truncatingIfNeeded: try next { $0.unsigned(4) })))
      : Double(bitPattern: try next { $0.unsigned(8) })
  }

  private mutating func flag(_ key: String) throws -> Bool {
    let byte = try next { $0.byte() }
    guard byte <= 1 else { throw refusal("gguf-bool", "'\(key)' is \(byte), neither true nor false") }
    return byte == 1
  }

  private func alignment(_ values: [String: GGUFValue]) throws -> Int {
    guard let value = values["general.alignment"] else { return GGUFLimits.alignment }
    guard let alignment = value.integer, (8...65_536).contains(alignment), alignment & (alignment - 1) == 0 else {
      throw refusal("gguf-alignment", "'general.alignment' is not a power of 2 in 8...65536")
    }
    return alignment
  }

  // MARK: - Tensors

  private struct Info {
    let name: String
    let shape: Shape
    let type: GGUFType
    /// Counted from the start of the data.
    let byteOffset: Int
    let byteCount: Int
  }

  private mutating func info() throws -> Info {
    let name = try name("a tensor")
    let rank = try next { $0.word() }
    guard rank <= GGUFLimits.rank else {
      throw refusal("gguf-rank", "\(rank) dimensions are more than \(GGUFLimits.rank)", tensor: name)
    }
    // The innermost comes first.
    let dimensions = try list(rank) { try $0.next { $0.long() } }
    let code = try next { $0.word() }
    let offset = try next { $0.long() }
    guard let type = GGUFType(rawValue: code) else {
      throw refusal(
        "gguf-tensor-type", "has elements of type \(GGUFType.unreadName(code))", tensor: name,
        remedy: "give a file of another quantization, or the checkpoint that it was made from")
    }
    guard dimensions.allSatisfy({ $0 > 0 }), let shape = Shape(dimensions.reversed()),
      shape.elementCount % type.blockElementCount == 0,
      let byteCount = (shape.elementCount / type.blockElementCount).multipliedChecked(by: type.blockByteCount)
    else {
      throw refusal("gguf-shape", "has the shape \(dimensions), which is no shape of \(type)", tensor: name)
    }
    // Of a vector, a row is one element.
    guard type.elementType != nil || (rank > 1 && dimensions[0] % type.blockElementCount == 0) else {
      throw refusal("gguf-shape", "is \(shape), whose rows are no blocks of \(type.blockElementCount)", tensor: name)
    }
    return Info(name: name, shape: shape, type: type, byteOffset: offset, byteCount: byteCount)
  }

  /// Puts the tensors in the order of their data, which lie apart from one another within the file.
  private func place(_ infos: [Info], alignment: Int) throws -> [GGUFFile.Tensor] {
    // At most the end of the file, and 65535 more.
    let dataStart = cursor.position.roundedUp(toMultipleOf: alignment)
    var end = 0
    return try infos.sorted { ($0.byteOffset, $0.name) < ($1.byteOffset, $1.name) }.map { info in
      func refusal(_ rule: String, _ message: String) -> Refusal {
        Refusal(rule, message, file: file.path, tensor: info.name)
      }
      guard info.byteOffset % alignment == 0 else {
        throw refusal("gguf-offset", "its data begin at \(info.byteOffset), which is no multiple of \(alignment)")
      }
      guard info.byteOffset >= end else { throw refusal("gguf-overlap", "its data overlap another tensor's") }
      guard let dataEnd = info.byteOffset.addingChecked(info.byteCount), let last = dataEnd.addingChecked(dataStart),
        last <= file.byteCount
      else {
        var refusal = refusal("gguf-data-past-end", "its data end behind the file")
        refusal.remedy = "the file is cut off: download it again"
        throw refusal
      }
      end = dataEnd
      return GGUFFile.Tensor(
        name: info.name, shape: info.shape, type: info.type, byteOffset: dataStart + info.byteOffset)
    }
  }
}
