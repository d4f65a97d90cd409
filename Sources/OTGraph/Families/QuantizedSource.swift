import OTFoundation
import OTJSON

/// Finds out whether a checkpoint's weights are already quantized, and by what.
package enum QuantizedSource {
  /// Endings of names that tell a scheme, the surest first.
  private static let signs: [(ending: String, scheme: String)] = [
    (".quant_state.bitsandbytes__nf4", "bitsandbytes, 4 bits (nf4)"),
    (".quant_state.bitsandbytes__fp4", "bitsandbytes, 4 bits (fp4)"), (".absmax", "bitsandbytes, 4 bits"),
    (".SCB", "bitsandbytes, 8 bits"), (".g_idx", "GPTQ"), (".qweight", "AWQ or GPTQ"),
    (".weight_packed", "compressed-tensors"), (".weight_scale_inv", "FP8 with a scale per block"),
    (".weight_scale_2", "ModelOpt, NVFP4"), (".weight_scale", "compressed-tensors or FP8"), ("_blocks", "MXFP4"),
    (".codebooks", "AQLM"), (".W_q", "HQQ"), (".Qidxs", "QuIP#"), (".centroids.weight", "VPTQ"),
  ]

  /// Names of schemes that are written otherwise than in config.json.
  private static let names = [
    "aqlm": "AQLM", "awq": "AWQ", "bitnet": "BitNet", "eetq": "EETQ", "fbgemm_fp8": "FBGEMM FP8", "fp8": "FP8",
    "gptq": "GPTQ", "higgs": "HIGGS", "hqq": "HQQ", "modelopt": "ModelOpt", "mxfp4": "MXFP4", "quark": "Quark",
    "quip": "QuIP#", "spqr": "SpQR", "vptq": "VPTQ",
  ]

  /// The refusal of weights that are quantized; nil where nothing says so.
  package static func refusal(configuration: JSONValue?, tensors: TensorCatalog) -> Refusal? {
    (try? Configuration(configuration, file: tensors.file)).flatMap { refusal($0, tensors) }
  }

  static func refusal(_ configuration: Configuration, _ tensors: TensorCatalog) -> Refusal? {
    let sign = signs.first { sign in tensors.entries.keys.contains { $0.hasSuffix(sign.ending) } }
    let stated = configuration.value("quantization_config") ?? configuration.value("compression_config")
    guard stated != nil || sign != nil else { return nil }
    let isFloat = tensors.entries.values.allSatisfy { $0.elementType.isConvertibleFloat || $0.shape.rank < 2 }
    var remedy = "convert the original checkpoint, whose weights are float"
    if sign == nil && isFloat {
      remedy = "if the weights are float again, remove 'quantization_config' from config.json; else \(remedy)"
    }
    let scheme = stated.map(describe) ?? sign?.scheme ?? ""
    return Refusal(
      "family-quantized", "the weights are already quantized: \(scheme)", file: tensors.file, remedy: remedy)
  }

  private static func describe(_ stated: JSONValue) -> String {
    let method = stated["quant_method"]?.string ?? stated["quantization_method"]?.string
    let name = method.map { names[$0.lowercased()] ?? $0 } ?? "by an unnamed method"
    let format = stated["format"]?.string
    var bits = stated["bits"]?.integer ?? stated["w_bit"]?.integer
    if stated["load_in_4bit"]?.bool == true { bits = 4 }
    if stated["load_in_8bit"]?.bool == true { bits = 8 }
    return [name, format, bits.map { "\($0) bits" }].compactMap { $0 }.joined(separator: ", ")
  }
}
