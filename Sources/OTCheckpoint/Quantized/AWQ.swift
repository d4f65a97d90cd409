import OTFoundation
import OTTensor

/// AWQ in the layout called `gemm`, 4 bits.
///
/// Of a module, `qweight` is `[in, out/8]`, `qzeros` `[groups, out/8]` and `scales` `[groups, out]`:
/// w = (q − z)·s. The order of the eight in a word is `ColumnCodes.Codes.interleaved`.
struct AWQScheme: QuantizedScheme {
  private let groupSize: Int?
  private let hasZeros: Bool

  init?(_ statement: QuantizationStatement) throws {
    guard statement.method == "awq" else { return nil }
    let version = statement.json["version"]?.string?.lowercased() ?? "gemm"
    guard version == "gemm" else { throw statement.unsupported("version '\(version)'") }
    let bits = try statement.integer("bits", in: 1...16) ?? statement.integer("w_bit", in: 1...16)
    guard bits == 4 else { throw statement.unsupported(bits.map { "\($0) bits" } ?? "without a number of bits") }
    hasZeros = statement.json["zero_point"]?.bool ?? true
    let size =
      try statement.integer("group_size", in: -1...Int(Int32.max))
      ?? statement.integer("q_group_size", in: -1...Int(Int32.max))
    groupSize = size.flatMap { $0 > 0 ? $0 : nil }
  }

  var name: String { "AWQ, 4 bits" }
  var parts: [String] { ["qweight", "qzeros", "scales"] }

  func weight(of module: QuantizedModule) throws -> TensorView? {
    guard module["qweight"] != nil else { return nil }
    let weights = try module.required("qweight", .i32, .u32)
    let scales = try module.required("scales", .f16, .bf16, .f32)
    let zeros = hasZeros || module["qzeros"] != nil ? try module.required("qzeros", .i32, .u32) : nil
    guard weights.shape.rank == 2, scales.shape.rank == 2, scales.shape.rowCount > 0,
      let rowCount = weights.shape.dimensions[1].multipliedChecked(by: 8)
    else { throw module.refusal("quantized-shape", "is no matrix", weights.shape.rank == 2 ? "scales" : "qweight") }
    let (columnCount, groupCount) = (weights.shape.rowCount, scales.shape.rowCount)
    let shape = try module.shape(rowCount, columnCount, "qweight")
    try module.check("scales", is: [groupCount, rowCount])
    try module.check("qzeros", is: [groupCount, rowCount / 8])
    return module.weight(
      shape, weights,
      by: ColumnCodes(
        codes: .interleaved, weights: weights, zeros: zeros, zeroOffset: zeros == nil ? 8 : 0, scales: scales,
        groups: try module.groups(columnCount, of: groupSize, count: groupCount, "scales"), shape: shape))
  }
}
