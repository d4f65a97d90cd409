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
  /// What the format is.
  package static let traits = FormatTraits(
    "a folder in the layout of Hugging Face: floats", .shards, isOfFloats: true)
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
    try HuggingFaceLayout.check(model, canRestore: true)
    try OutputFolder.check(output.path, force: output.force, inputs: output.inputs)
    entries = try SourceEntry.all(of: model, elementType: output.elementType)
    return made().tensors
  }

  /// Bytes that the tensors hardly stay below.
  package func leastByteCount(of tensors: [ExportedTensor]) -> Int {
    tensors.reduce(0) { $0 + $1.storedByteCount(.none) }
  }

  /// Begins the output.
  package func begin(_ tensors: [ExportedTensor], of model: ExportedModel) throws {
    let folder = try OutputFolder(output.path, force: output.force, inputs: output.inputs)
    self.folder = folder
    try HuggingFaceLayout.write(model, to: folder, elementType: output.elementType)
    let count = made().files.count
    let names = (0..<count).map { HuggingFaceLayout.fileName($0, of: count) }
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
      try HuggingFaceLayout.writeIndex(of: files.files.map { $0.map(\.entry) }, to: folder)
    }
    var record = record
    record["graph"] = nil
    try folder.commit(record)
  }

  private func made(path: @escaping (Int) -> String = { "\($0)" }) -> SafetensorsFiles {
    SafetensorsFiles(entries, byteCount: output.shardByteCount, force: false, inputs: [], path: path)
  }
}
