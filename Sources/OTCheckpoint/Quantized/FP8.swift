import OTFoundation
import OTJSON
import OTTensor

/// Weights of E4M3 with scales, as DeepSeek, Qwen and vLLM write them.
///
/// w = e4m3 · scale: `weight_scale_inv`, one for each block (it is multiplied, in spite of its name), or
/// `weight_scale`, one, or one for each row.
struct FP8Scheme: QuantizedScheme {
  private let block: [Int]

  init?(_ statement: QuantizationStatement) throws {
    guard ["fp8", "fbgemm_fp8"].contains(statement.method) else { return nil }
    let format = statement.json["fmt"]?.string ?? "e4m3"
    guard ["e4m3", "float8_e4m3fn"].contains(format) else { throw statement.unsupported("fmt '\(format)'") }
    guard let stated = statement.json["weight_block_size"], stated != .null else {
      block = [128, 128]
      return
    }
    let sizes = stated.array?.compactMap(\.integer) ?? []
    guard sizes.count == 2, stated.array?.count == 2, sizes.allSatisfy({ (1...Int(Int32.max)).contains($0) }) else {
      throw statement.refusal("quantized-statement", "'weight_block_size' is not a list of two sizes")
    }
    block = sizes
  }

  var name: String { "FP8" }
  var parts: [String] { ["weight", "weight_scale", "weight_scale_inv"] }
  var leftOut: [String] { ["input_scale", "activation_scale", "input_scale_ub", "k_scale", "v_scale"] }

  func weight(of module: QuantizedModule) throws -> TensorView? {
    let hasScale = module["weight_scale"] != nil || module["weight_scale_inv"] != nil
    guard hasScale || module["weight"]?.elementType == .f8e4m3 else { return nil }
    let weight = try module.required("weight", .f8e4m3)
    guard weight.shape.rank == 2 else { throw module.refusal("quantized-shape", "is no matrix", "weight") }
    let shape = try module.shape(weight.shape.rowCount, weight.shape.dimensions[1], "weight")
    let part = module["weight_scale_inv"] == nil ? "weight_scale" : "weight_scale_inv"
    let view = try module.required(part, .f32, .f16, .bf16, .u8, .f8e8m0)
    return module.weight(
      shape, weight,
      by: ScaledRows(
        codes: .e4m3, view: weight, columnCount: shape.rowElementCount,
        scales: try module.scales(part, view, of: shape, blocks: [block])))
  }
}
