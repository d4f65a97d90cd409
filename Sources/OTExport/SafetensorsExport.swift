import OTCheckpoint
import OTFoundation
import OTGraph
import OTJSON
import OTTensor

/// Writes a folder in the layout of Hugging Face: the source's tensors as floats, `config.json`, the
/// tokenizer and what else goes with the model.
package final class SafetensorsExport: ModelWriter {
  /// The format's name.
  package static let format = "safetensors"
  /// The output.
  package let output: ExportOutput
  /// The encoder of blocks.
  package let encoder = FloatEncoder()
  private var entries: [SourceEntry] = []
  private var folder: OutputFolder?
  private var files: SafetensorsFiles?

  /// A writer that has not begun.
  package init(_ output: ExportOutput) { self.output = output }

  /// The tensors that it takes of a model, in the order of writing.
  package func accept(_ model: ExportedModel) throws -> [ExportedTensor] {
    try SafetensorsExport.refuse(model)
    try OutputFolder.check(output.path, force: output.force, inputs: output.inputs)
    entries = try SourceEntry.all(of: model, elementType: output.elementType)
    return made().tensors
  }

  /// - Throws: `Refusal` with rule `export-affine`, `export-bias`, `export-rotation`, `export-split` or `export-config`.
  private static func refuse(_ model: ExportedModel) throws {
    for node in model.graph?.nodes ?? [] {
      switch node.operation {
      case .affine:
        throw Refusal(
          "export-affine", "site '\(node.name)' is shifted and scaled by a node that no module of the source computes",
          file: model.path, remedy: "use --no-calibration; a packed file can be exported --restored")
      case .rotation:
        throw Refusal(
          "export-rotation", "site '\(node.name)' is rotated by a node that no module of the source computes",
          file: model.path, remedy: "export it --restored, or by a method that does not rotate")
      case .linear(let linear) where linear.role == .rotation:
        throw Refusal(
          "export-rotation", "the residual stream is rotated by '\(node.name)', which no module of the source computes",
          file: model.path, remedy: "export it by a method that does not rotate")
      case .gather:
        throw Refusal(
          "export-split",
          "channels of site '\(node.name)' are read apart by a node that no module of the source computes",
          file: model.path, remedy: "export it --restored, or by a method that keeps no channels in floating point")
      default: break
      }
    }
    for tensor in model.tensors {
      guard tensor.source == nil, let use = tensor.use, use.role != .shift, use.role != .scale else { continue }
      throw Refusal(
        "export-bias", "node '\(use.node)' gains a \(use.role.rawValue) that the source's layout has no place for",
        file: model.path, tensor: tensor.name,
        remedy: "use --no-symmetrization (outliertune,symmetrize=false); a packed file can be exported --restored")
    }
    guard model.files.contains(where: { $0.name == ModelAttachments.Kind.configuration.rawValue }) else {
      throw Refusal(
        "export-config", "has no config.json, without which nothing can load what is exported", file: model.path,
        remedy: "put it beside the checkpoint")
    }
  }

  /// Bytes that the tensors hardly stay below.
  package func leastByteCount(of tensors: [ExportedTensor]) -> Int {
    tensors.reduce(0) { $0 + $1.storedByteCount(.none) }
  }

  /// Begins the output.
  package func begin(_ tensors: [ExportedTensor], of model: ExportedModel) throws {
    let folder = try OutputFolder(output.path, force: output.force, inputs: output.inputs)
    self.folder = folder
    for file in model.files {
      guard file.name == ModelAttachments.Kind.configuration.rawValue, let type = output.elementType else {
        try file.withBytes { try folder.write(file.name, $0) }
        continue
      }
      try configuration(file, type).withUnsafeBytes { try folder.write(file.name, $0) }
    }
    let count = made().files.count
    let names = (0..<count).map { SafetensorsExport.name($0, of: count) }
    let paths = try names.map { try folder.file($0) }
    let files = made { paths[$0] }
    self.files = files
    try files.begin()
  }

  /// Writes the next block of the current tensor.
  package func write(_ block: FloatEncoder.Encoded, of tensor: ExportedTensor) throws { try files?.write(block) }
  /// Ends the current tensor.
  package func finish(_ tensor: ExportedTensor) throws { try files?.finishPart() }

  /// Ends the output and gives it its name.
  package func commit(_ record: JSONObject) throws {
    guard let folder, let files else { return }
    try files.commit()
    if files.files.count > 1 {
      let index = SafetensorsExport.index(files.files)
      try Array(index.text(pretty: true).utf8).withUnsafeBytes {
        try folder.write("model.safetensors.index.json", $0)
      }
    }
    var record = record
    record["graph"] = nil
    try folder.commit(record)
  }

  private func made(path: @escaping (Int) -> String = { "\($0)" }) -> SafetensorsFiles {
    SafetensorsFiles(entries, byteCount: output.shardByteCount, force: false, inputs: [], path: path)
  }

  private static func name(_ index: Int, of count: Int) -> String {
    func digits(_ value: Int) -> String { String(repeating: "0", count: max(0, 5 - "\(value)".count)) + "\(value)" }
    return count == 1 ? "model.safetensors" : "model-\(digits(index + 1))-of-\(digits(count)).safetensors"
  }

  private static func index(_ files: [[SourceEntry]]) -> JSONValue {
    var map = JSONObject()
    for (index, entries) in files.enumerated() {
      for entry in entries { map[entry.entry.name] = .string(name(index, of: files.count)) }
    }
    let total = files.joined().reduce(0) { $0 + $1.byteCount }
    return .object(["metadata": .object(["total_size": .integer(total)]), "weight_map": .object(map)])
  }

  /// The model's configuration, which names the type of its floats.
  private func configuration(_ file: ExportedFile, _ type: ElementType) throws -> [UInt8] {
    let json = try file.withBytes { try JSONValue.parse($0, limits: .configuration, file: file.name) }
    var object = json.object ?? [:]
    let name: JSONValue = .string(type == .f16 ? "float16" : type == .bf16 ? "bfloat16" : "float32")
    if object["dtype"] != nil { object["dtype"] = name }
    if object["torch_dtype"] != nil || object["dtype"] == nil { object["torch_dtype"] = name }
    return Array(JSONValue.object(object).text(pretty: true).utf8)
  }
}
