/// Bytes of a GGUF file, right or wrong.
struct GGUFBuilder {
  enum Value {
    case int(UInt32)
    case half(UInt16)
    case long(UInt64)
    case float(Float)
    case text(String)
    case flag(UInt8)
    case type(UInt32)
    case list(UInt32, [String])
    case claimedList(UInt32, UInt64)
  }

  var version: UInt32 = 3
  var tensorCount: UInt64?
  var keyCount: UInt64?
  var tensors: [(name: String, dimensions: [UInt64], type: UInt32)] = []
  var offset: UInt64?
  var offsets: [UInt64] = []
  private var keys: [(String, Value)] = []

  mutating func add(_ key: String, _ value: Value) { keys.append((key, value)) }

  mutating func addLlama() {
    add("general.architecture", .text("llama"))
    add("llama.block_count", .int(1))
    add("llama.embedding_length", .int(4))
    add("llama.feed_forward_length", .int(8))
    add("llama.attention.head_count", .int(2))
    add("llama.context_length", .int(16))
    add("llama.attention.layer_norm_rms_epsilon", .float(1e-5))
  }

  static var tiny: GGUFBuilder {
    var file = GGUFBuilder()
    file.addLlama()
    file.tensors = [("token_embd.weight", [4, 6], 0), ("output_norm.weight", [4], 0)]
    return file
  }

  func bytes() -> [UInt8] {
    var bytes = Array("GGUF".utf8)
    func put<Number: FixedWidthInteger>(_ number: Number) { withUnsafeBytes(of: number.littleEndian) { bytes += $0 } }
    func put(_ text: String) {
      put(UInt64(text.utf8.count))
      bytes += Array(text.utf8)
    }
    put(version)
    put(tensorCount ?? UInt64(tensors.count))
    put(keyCount ?? UInt64(keys.count))
    for (key, value) in keys {
      put(key)
      switch value {
      case .int(let value): put(UInt32(4)); put(value)
      case .half(let value): put(UInt32(2)); put(value)
      case .long(let value): put(UInt32(10)); put(value)
      case .float(let value): put(UInt32(6)); put(value.bitPattern)
      case .text(let text): put(UInt32(8)); put(text)
      case .flag(let value): put(UInt32(7)); put(value)
      case .type(let type): put(type)
      case .list(let type, let texts): put(UInt32(9)); put(type); put(UInt64(texts.count)); texts.forEach(put)
      case .claimedList(let type, let count): put(UInt32(9)); put(type); put(count)
      }
    }
    var end: UInt64 = 0
    for (index, tensor) in tensors.enumerated() {
      put(tensor.name)
      put(UInt32(tensor.dimensions.count))
      tensor.dimensions.forEach { put($0) }
      put(tensor.type)
      put(offsets.isEmpty ? offset ?? end : offsets[index])
      let count = tensor.dimensions.reduce(UInt64(1)) { $0 &* $1 }
      if count < 4096 { end += (count * 4 + 31) / 32 * 32 }
    }
    bytes += [UInt8](repeating: 0, count: (32 - bytes.count % 32) % 32)
    return bytes + [UInt8](repeating: 0, count: Int(end))
  }
}
