import OTFoundation
import OTJSON
import OTTensor

/// The tensors of a checkpoint with the quantized weights as floats.
struct DequantizedTensors {
  let tensors: [TensorView]
  /// The scheme in words.
  let scheme: String
  /// config.json without what says that the weights are quantized; nil where there is none.
  let configuration: JSONValue?
  let warnings: [String]
}

/// The schemes that are read.
enum QuantizedSchemes {
  static let all: [any QuantizedScheme.Type] = [
    GPTQScheme.self, AWQScheme.self, CompressedTensorsScheme.self, FP8Scheme.self, BitsAndBytesScheme.self,
    MLXScheme.self, MXFP4Scheme.self,
  ]

  /// Members of config.json that say how weights are quantized.
  private static let members = ["quantization_config", "compression_config", "quantization"]

  /// Gives the quantized weights among `tensors` as floats; nil where nothing says that some are, or by a
  /// scheme that is not known: whoever needs floats refuses those.
  ///
  /// - Throws: `Refusal` with a rule `quantized-…`.
  static func read(_ tensors: [TensorView], beside attachments: ModelAttachments) throws -> DequantizedTensors? {
    // What is wrong with config.json, whoever needs it says.
    let configuration = (try? attachments.json(.configuration)) ?? nil
    guard let statement = statement(configuration, attachments) else { return nil }
    for type in all {
      if let scheme = try type.init(statement) { return try read(tensors, by: scheme, configuration) }
    }
    return nil
  }

  private static func statement(_ configuration: JSONValue?, _ attachments: ModelAttachments) -> QuantizationStatement?
  {
    let file = attachments.directory.appendingPathComponent("config.json")
    for member in members {
      guard let json = configuration?[member], json.object != nil else { continue }
      let method = json["quant_method"]?.string ?? json["quantization_method"]?.string
      // MLX alone says it without a name.
      guard let name = method ?? (member == "quantization" ? MLXScheme.method : nil) else { continue }
      return QuantizationStatement(json: json, method: name.lowercased(), file: file)
    }
    // Files of programs that wrote nothing into config.json.
    for (name, method) in [("quantize_config.json", "gptq"), ("quant_config.json", "awq")] {
      let path = attachments.directory.appendingPathComponent(name)
      guard FileIdentity(path: path) != nil, let file = try? MappedFile(path: path),
        let json = try? JSONValue.parse(contentsOf: file), json.object != nil
      else { continue }
      return QuantizationStatement(json: json, method: json["quant_method"]?.string ?? method, file: path)
    }
    return nil
  }

  private static func read(
    _ tensors: [TensorView], by scheme: some QuantizedScheme, _ configuration: JSONValue?
  ) throws -> DequantizedTensors? {
    // The longest first: one may end as another does.
    let parts = scheme.parts.sorted { $0.utf8.count > $1.utf8.count }
    func place(_ name: String) -> (module: String, part: String)? {
      parts.first { name.hasSuffix(scheme.separator + $0) }.map { (String(name.dropLast($0.count + 1)), $0) }
    }
    var modules: [String: [String: TensorView]] = [:]
    for tensor in tensors {
      if let (module, part) = place(tensor.name) { modules[module, default: [:]][part] = tensor }
    }
    var weights: [String: TensorView] = [:]
    for (name, tensors) in modules {
      let module = QuantizedModule(name: name, tensors: tensors)
      if let weight = try scheme.weight(of: module) {
        weights[name] = weight
      } else if let part = tensors.keys.sorted().first(where: { $0 != "weight" }) {
        throw module.refusal("quantized-part-missing", "stands without the weight that it belongs to", part)
      }
    }
    guard !weights.isEmpty else { return nil }
    var (result, leftOut) = ([TensorView](), [String]())
    var written: Set<String> = []
    for tensor in tensors {
      if let (module, _) = place(tensor.name), let weight = weights[module] {
        // At the place of the first of its parts.
        if written.insert(module).inserted { result.append(weight) }
      } else if scheme.leftOut.contains(where: { tensor.name.hasSuffix("." + $0) }) {
        leftOut.append(tensor.name)
      } else {
        result.append(tensor)
      }
    }
    let count = weights.count == 1 ? "1 weight is" : "\(weights.count) weights are"
    var warnings = ["the checkpoint is quantized already (\(scheme.name)): \(count) made float again, with its errors"]
    if let first = leftOut.first {
      let others = leftOut.count > 1 ? " and \(leftOut.count - 1) more" : ""
      warnings.append("scales of activations are left out: '\(Refusal.printable(first))'\(others)")
    }
    return DequantizedTensors(
      tensors: result, scheme: scheme.name, configuration: configuration.map(plain), warnings: warnings)
  }

  /// The configuration of the same model with float weights.
  private static func plain(_ configuration: JSONValue) -> JSONValue {
    guard var object = configuration.object else { return configuration }
    for member in members { object[member] = nil }
    return .object(object)
  }
}
