import OTFoundation
import OTTensor

/// GPTQ, as AutoGPTQ, GPTQModel and AutoRound write it; 2, 3, 4 or 8 bits.
///
/// Of a module, `qweight` `[in·b/32, out]` has a stream of unsigned integers in each column, `qzeros`
/// `[groups, out·b/32]` one in each row, `scales` is `[groups, out]`, and `g_idx` `[in]`, if there is one,
/// names each input's group. w = (q − z)·s; z is what is stored plus 1, but for `gptq_v2`.
struct GPTQScheme: QuantizedScheme {
  private let bits: Int
  private let groupSize: Int?
  private let zeroOffset: Int

  init?(_ statement: QuantizationStatement) throws {
    guard statement.method == "gptq" else { return nil }
    let format = statement.json["checkpoint_format"]?.string ?? statement.json["format"]?.string ?? "gptq"
    guard ["gptq", "gptq_v2"].contains(format) else { throw statement.unsupported("checkpoint_format '\(format)'") }
    zeroOffset = format == "gptq" ? 1 : 0
    guard let bits = try statement.integer("bits", in: 1...16) else {
      throw statement.refusal("quantized-statement", "'bits' is not there")
    }
    guard [2, 3, 4, 8].contains(bits) else { throw statement.unsupported("\(bits) bits") }
    self.bits = bits
    let size = try statement.integer("group_size", in: -1...Int(Int32.max))
    groupSize = size.flatMap { $0 > 0 ? $0 : nil }
  }

  var name: String { "GPTQ, \(bits) bits" }
  var parts: [String] { ["qweight", "qzeros", "scales", "g_idx"] }

  func weight(of module: QuantizedModule) throws -> TensorView? {
    guard module["qweight"] != nil else { return nil }
    let weights = try module.required("qweight", .i32, .u32)
    let zeros = try module.required("qzeros", .i32, .u32)
    let scales = try module.required("scales", .f16, .bf16, .f32)
    guard weights.shape.rank == 2, scales.shape.rank == 2,
      let bitCount = weights.shape.rowCount.multipliedChecked(by: 32)
    else { throw module.refusal("quantized-shape", "is no matrix", weights.shape.rank == 2 ? "scales" : "qweight") }
    let rowCount = weights.shape.dimensions[1]
    let columnCount = module["g_idx"].map(\.shape.elementCount) ?? bitCount / bits
    let shape = try module.shape(rowCount, columnCount, "qweight")
    guard columnCount.multipliedChecked(by: bits).map({ $0 == bitCount }) == true else {
      throw module.refusal(
        "quantized-shape", "is \(weights.shape), which are no \(columnCount) inputs of \(bits) bits", "qweight")
    }
    let groupCount = scales.shape.rowCount
    guard groupCount > 0 else { throw module.refusal("quantized-shape", "has no groups", "scales") }
    try module.check("scales", is: [groupCount, rowCount])
    guard let zeroWords = PackedIntegers.wordCount(rowCount, bits: bits) else {
      throw module.refusal("quantized-shape", "has too many columns", "qweight")
    }
    try module.check("qzeros", is: [groupCount, zeroWords])
    let groups = try groups(of: module, columnCount, groupCount)
    try checkZeros(module, zeros, rowCount)
    return module.weight(
      shape, weights,
      by: ColumnCodes(
        codes: .stream(bits: bits), weights: weights, zeros: zeros, zeroOffset: zeroOffset, scales: scales,
        groups: groups, shape: shape))
  }

  /// The group of each input.
  private func groups(of module: QuantizedModule, _ columnCount: Int, _ groupCount: Int) throws -> [Int32] {
    if module["g_idx"] != nil {
      let view = try module.required("g_idx", .i32)
      try module.check("g_idx", is: [columnCount])
      let groups = view.integers()
      guard groups.allSatisfy({ (0..<Int32(clamping: groupCount)).contains($0) }) else {
        throw module.refusal("quantized-group", "names a group that is none of the \(groupCount)", "g_idx")
      }
      return groups
    }
    return try module.groups(columnCount, of: groupSize, count: groupCount, "scales")
  }

  /// A zero point of 0, less 1, wraps around: programs differ in what they read of that.
  private func checkZeros(_ module: QuantizedModule, _ zeros: TensorView, _ rowCount: Int) throws {
    guard zeroOffset > 0 else { return }
    let wrapped = zeros.withRowBytes(0..<zeros.shape.rowCount) { bytes in
      let wordCount = zeros.shape.rowElementCount
      return (0..<zeros.shape.rowCount).contains { group in
        (0..<rowCount).contains { row in
          PackedIntegers.value(at: row, bits: bits) { PackedIntegers.word(bytes, group * wordCount + $0) }
            == (1 << bits) - 1
        }
      }
    }
    guard wrapped else { return }
    throw module.refusal(
      "quantized-zero-point", "has a stored zero point of \((1 << bits) - 1), of which programs read different things",
      "qzeros")
  }
}

extension QuantizedModule {
  /// The groups of inputs that lie side by side.
  ///
  /// - Throws: `Refusal` with rule `quantized-group`.
  func groups(_ columnCount: Int, of size: Int?, count: Int, _ part: String) throws -> [Int32] {
    let size = size ?? columnCount
    guard (columnCount - 1) / size + 1 == count else {
      throw refusal(
        "quantized-group", "has \(count) groups; \(columnCount) inputs in groups of \(size) have another number", part)
    }
    return (0..<columnCount).map { Int32(clamping: $0 / size) }
  }
}

extension TensorView {
  /// All elements of an I32 tensor.
  func integers() -> [Int32] {
    withRowBytes(0..<shape.rowCount) { bytes in
      (0..<bytes.count / 4).map {
        Int32(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Int32.self))
      }
    }
  }
}
