import OTCheckpoint
import OTFoundation
import OTGraph
import OTJSON
import OTQuantization
import OTTensor

/// A format of folders in the layout of Hugging Face whose linears, or tables too, are quantized values with scales.
protocol QuantizedLayout: Sendable {
  /// The format's name.
  static var format: String { get }
  /// What the format is.
  static var traits: FormatTraits { get }
  /// The texts of each file of tensors.
  static var metadata: [String: String] { get }

  /// What the format says of a model.
  ///
  /// - Throws: `Refusal` for a model that it cannot hold.
  init(_ model: ExportedModel, _ output: ExportOutput) throws

  /// What the user should know, a line each.
  var notes: [String] { get }

  /// True when quantized values of this tensor stay such.
  func keepsValues(of tensor: ExportedTensor) -> Bool
  /// Looks at all matrices that stay quantized values.
  ///
  /// - Throws: `Refusal` for one that the format cannot hold, naming the way out.
  mutating func accept(_ modules: [QuantizedModule], of model: ExportedModel) throws
  /// The factor of a parameter's elements.
  func factor(of tensor: ExportedTensor) -> Float
  /// The tensors of a matrix.
  func entries(of module: QuantizedModule) -> [SafetensorsWriter.Entry]
  /// Rows of a parameter, the first of which is `firstRow` of the matrix that it is in.
  func encode(
    _ rows: QuantizedRows, of tensor: ExportedTensor, from firstRow: Int, in module: QuantizedModule
  ) throws -> [PlacedBytes]
  /// What is known of a matrix once its rows, with these zero points, have been written.
  func ending(of module: QuantizedModule, zeroPoints: [UInt8]) -> [PlacedBytes]
  /// Adds the quantization to config.json.
  func describe(in configuration: inout JSONObject)
}

extension QuantizedLayout {
  var notes: [String] { [] }
}

/// The tensors of such a folder that are written together.
private enum Unit: Sendable {
  case module(QuantizedModule)
  case floats(SourceEntry)

  var parts: [SourceEntry.Part] {
    switch self {
    case .module(let module): module.entry.parts
    case .floats(let entry): entry.parts
    }
  }
}

/// Encodes blocks of rows for a folder of quantized values.
struct QuantizedFolderEncoder<Layout: QuantizedLayout>: TensorEncoder {
  /// Bytes with their places; those of a tensor that is put together in memory name its rows.
  struct Encoded: Sendable {
    var placed: [PlacedBytes] = []
    var zeroPoints: [UInt8] = []
    var scattered: (bytes: [UInt8], rows: Range<Int>)?
  }

  fileprivate let layout: Layout
  fileprivate let modules: [String: QuantizedModule]
  fileprivate let floats: [String: SourceEntry]

  /// Encodes rows of a quantized tensor.
  func encode(_ rows: QuantizedRows, of tensor: ExportedTensor) throws -> Encoded {
    guard let module = modules[tensor.name] else { preconditionFailure("asked for other quantized tensors") }
    let first = module.entry.firstRow(of: tensor) + rows.rows.lowerBound
    return Encoded(
      placed: try layout.encode(rows, of: tensor, from: first, in: module),
      zeroPoints: rows.zeroPoints)
  }

  /// Encodes rows of another tensor.
  func encode(_ bytes: UnsafeRawBufferPointer, rows: Range<Int>, of tensor: ExportedTensor) throws -> Encoded {
    guard let entry = floats[tensor.name] else { preconditionFailure("asked for other tensors") }
    let type = entry.entry.elementType
    var made = Array(bytes)
    let factor = layout.factor(of: tensor)
    if tensor.plainType != type || factor != 1 {
      // Asked for as float32, since they are changed.
      let values = FloatBytes.floats(bytes).map { ($0 + tensor.constant) * factor - tensor.constant }
      made = try FloatBytes.with(
        values, as: type, of: tensor.name, in: nil, remedy: "use --dtype f32"
      ) { Array($0) }
    }
    guard entry.isStreamed else { return Encoded(scattered: (made, rows)) }
    let rowByteCount = tensor.shape.rowElementCount * type.bitWidth / 8
    return Encoded(placed: [
      PlacedBytes(name: entry.entry.name, offset: rows.lowerBound * rowByteCount, bytes: made)
    ])
  }
}

/// Writes folders of quantized values.
final class QuantizedFolder<Layout: QuantizedLayout>: ModelWriter {
  /// The format's name.
  static var format: String { Layout.format }
  /// What the format is.
  static var traits: FormatTraits { Layout.traits }
  /// The output.
  let output: ExportOutput
  private var made: QuantizedFolderEncoder<Layout>?
  private var units: [Unit] = []
  private var folder: OutputFolder?
  private var files: PlacedTensors?
  private var unit = 0
  private var part = 0
  private var zeroPoints: [UInt8] = []
  private var buffer: SourceTensorBuffer?

  /// A writer that has not begun.
  init(_ output: ExportOutput) { self.output = output }

  /// What the user should know, a line each.
  var notes: [String] { made?.layout.notes ?? [] }

  /// The encoder of blocks of the model that was accepted.
  var encoder: QuantizedFolderEncoder<Layout> {
    guard let made else { preconditionFailure("no model has been accepted") }
    return made
  }

  /// The tensors that it takes of a model, in the order of writing.
  func accept(_ model: ExportedModel) throws -> [ExportedTensor] {
    try HuggingFaceLayout.check(model, canRestore: false)
    try OutputFolder.check(output.path, force: output.force, inputs: output.inputs)
    var layout = try Layout(model, output)
    let entries = try SourceEntry.all(of: model, elementType: output.elementType, keepsValues: layout.keepsValues)
    units = try entries.map { entry in
      guard entry.parts.contains(where: { $0.tensor.scheme != nil }) else {
        var entry = entry
        entry.parts = entry.parts.map { part in
          guard entry.entry.elementType.isConvertibleFloat, layout.factor(of: part.tensor) != 1 else { return part }
          var tensor = part.tensor
          tensor.content = .plain(.f32)
          return SourceEntry.Part(tensor: tensor, place: part.place)
        }
        return .floats(entry)
      }
      return .module(try QuantizedModule(entry, of: model))
    }
    let modules = units.compactMap { unit in if case .module(let module) = unit { module } else { nil } }
    guard !modules.isEmpty else {
      throw Refusal(
        "export-nothing", "has no quantized values that the format takes", file: model.path,
        remedy: "export it --to safetensors, or exclude fewer linears")
    }
    try layout.accept(modules, of: model)
    made = QuantizedFolderEncoder(
      layout: layout,
      modules: Dictionary(
        modules.flatMap { module in module.entry.parts.map { ($0.tensor.name, module) } },
        uniquingKeysWith: { first, _ in first }),
      floats: Dictionary(
        units.flatMap { unit in
          guard case .floats(let entry) = unit else { return [(String, SourceEntry)]() }
          return entry.parts.map { ($0.tensor.name, entry) }
        }, uniquingKeysWith: { first, _ in first }))
    return units.flatMap { $0.parts.map(\.tensor) }
  }

  private func entries(of unit: Unit) -> [SafetensorsWriter.Entry] {
    switch unit {
    case .module(let module): encoder.layout.entries(of: module)
    case .floats(let entry): [entry.entry]
    }
  }

  /// Bytes that the tensors hardly stay below.
  func leastByteCount(of tensors: [ExportedTensor]) -> Int {
    units.flatMap(entries).reduce(0) { $0 + $1.byteCount }
  }

  /// Begins the output.
  func begin(_ tensors: [ExportedTensor], of model: ExportedModel) throws {
    let layout = encoder.layout
    let folder = try OutputFolder(output.path, force: output.force, inputs: output.inputs)
    self.folder = folder
    try HuggingFaceLayout.write(model, to: folder, elementType: output.elementType) { layout.describe(in: &$0) }
    let files = PlacedTensors(
      units.map(entries), byteCount: output.shardByteCount, metadata: Layout.metadata)
    self.files = files
    try files.begin { try folder.file(HuggingFaceLayout.fileName($0, of: files.files.count)) }
  }

  /// Writes the next block of the current tensor.
  func write(_ block: QuantizedFolderEncoder<Layout>.Encoded, of tensor: ExportedTensor) throws {
    for placed in block.placed { try files?.put(placed) }
    zeroPoints += block.zeroPoints
    guard let (bytes, rows) = block.scattered, case .floats(let entry) = units[unit] else { return }
    if buffer == nil { buffer = SourceTensorBuffer(entry) }
    buffer?.put(bytes, rows: rows, of: entry.parts[part].place)
  }

  /// Ends the current tensor.
  func finish(_ tensor: ExportedTensor) throws {
    part += 1
    guard part == units[unit].parts.count else { return }
    switch units[unit] {
    case .module(let module):
      for placed in encoder.layout.ending(of: module, zeroPoints: zeroPoints) { try files?.put(placed) }
    case .floats(let entry):
      if let buffer { try files?.put(PlacedBytes(name: entry.entry.name, offset: 0, bytes: buffer.bytes)) }
    }
    (zeroPoints, buffer, part, unit) = ([], nil, 0, unit + 1)
    try files?.finishUnit()
  }

  /// Ends the output and gives it its name.
  func commit(_ record: JSONObject) throws {
    guard let folder, let files else { return }
    try files.commit()
    // Also of one file: others in the folder are then nobody's.
    try HuggingFaceLayout.writeIndex(of: files.files, to: folder)
    var record = record
    record["graph"] = nil
    try folder.commit(record)
  }
}
