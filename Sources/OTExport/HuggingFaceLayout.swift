import OTCheckpoint
import OTFoundation
import OTGraph
import OTJSON
import OTTensor

/// What folders in the layout of Hugging Face have in common: the names of their files, config.json, and what no
/// module of their models computes.
enum HuggingFaceLayout {
  /// - Parameter canRestore: true where the format holds a packed file's model with its transforms undone.
  /// - Throws: `Refusal` with rule `export-affine`, `export-bias`, `export-rotation`, `export-split` or `export-config`.
  static func check(_ model: ExportedModel, canRestore: Bool) throws {
    func remedy(_ text: String) -> String { canRestore ? "export it --restored, or \(text)" : text }
    for node in model.graph?.nodes ?? [] {
      func refusal(_ rule: String, _ message: String, _ remedy: String) -> Refusal {
        Refusal(rule, message, file: model.path, remedy: remedy)
      }
      switch node.operation {
      case .affine:
        throw refusal(
          "export-affine", "site '\(node.name)' is shifted and scaled by a node that no module of the source computes",
          "use --no-calibration" + (canRestore ? "; a packed file can be exported --restored" : ""))
      case .rotation:
        throw refusal(
          "export-rotation", "site '\(node.name)' is rotated by a node that no module of the source computes",
          remedy("use a method that does not rotate (--method smoothquant)"))
      case .linear(let linear) where linear.role == .rotation:
        throw refusal(
          "export-rotation", "the residual stream is rotated by '\(node.name)', which no module of the source computes",
          "use a method that does not rotate (--method smoothquant)")
      case .gather:
        throw refusal(
          "export-split",
          "channels of site '\(node.name)' are read apart by a node that no module of the source computes",
          remedy("use a method that keeps no channels in floating point (--method smoothquant)"))
      default: break
      }
    }
    for tensor in model.tensors {
      guard tensor.source == nil, let use = tensor.use, use.role != .shift, use.role != .scale else { continue }
      throw Refusal(
        "export-bias", "node '\(use.node)' gains a \(use.role.rawValue) that the source's layout has no place for",
        file: model.path, tensor: tensor.name,
        remedy: "use --no-symmetrization (outliertune,symmetrize=false)"
          + (canRestore ? "; a packed file can be exported --restored" : ""))
    }
    _ = try model.configuration()
  }

  /// The name of a file of tensors.
  static func fileName(_ index: Int, of count: Int) -> String {
    func digits(_ value: Int) -> String { String(repeating: "0", count: max(0, 5 - "\(value)".count)) + "\(value)" }
    return count == 1 ? "model.safetensors" : "model-\(digits(index + 1))-of-\(digits(count)).safetensors"
  }

  /// Writes the files that go with a model.
  ///
  /// - Parameters:
  ///   - elementType: the type of its floats, which config.json states; nil: as it does.
  ///   - change: what else becomes of config.json.
  static func write(
    _ model: ExportedModel, to folder: OutputFolder, elementType: ElementType?,
    _ change: ((inout JSONObject) -> Void)? = nil
  ) throws {
    for file in model.files {
      guard file.name == ModelAttachments.Kind.configuration.rawValue else {
        try file.withBytes { try folder.write(file.name, $0) }
        continue
      }
      var object = try model.configuration()
      let isQuantized = object["quantization_config"] != nil || object["quantization"] != nil
      guard isQuantized || elementType != nil || change != nil else {
        try file.withBytes { try folder.write(file.name, $0) }
        continue
      }
      // Of the source's own values, which are floats now.
      object["quantization_config"] = nil
      object["quantization"] = nil
      if let elementType {
        let name: JSONValue = .string(
          elementType == .f16 ? "float16" : elementType == .bf16 ? "bfloat16" : "float32")
        if object["dtype"] != nil { object["dtype"] = name }
        if object["torch_dtype"] != nil || object["dtype"] == nil { object["torch_dtype"] = name }
      }
      change?(&object)
      try Array(JSONValue.object(object).text(pretty: true).utf8).withUnsafeBytes { try folder.write(file.name, $0) }
    }
  }

  /// Writes the list of which tensor is in which file.
  static func writeIndex(of files: [[SafetensorsWriter.Entry]], to folder: OutputFolder) throws {
    var map = JSONObject()
    for (index, entries) in files.enumerated() {
      for entry in entries { map[entry.name] = .string(fileName(index, of: files.count)) }
    }
    let total = files.joined().reduce(0) { $0 + $1.byteCount }
    let index = JSONValue.object([
      "metadata": .object(["total_size": .integer(total)]), "weight_map": .object(map),
    ])
    try Array(index.text(pretty: true).utf8).withUnsafeBytes { try folder.write("model.safetensors.index.json", $0) }
  }
}
