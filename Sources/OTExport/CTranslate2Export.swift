import OTCheckpoint
import OTFoundation
import OTJSON

/// Writes folders for CTranslate2: one file of variables, in which linears and tables are signed bytes with the inverse
/// of a scale for each row.
final class CTranslate2Export: ModelWriter {
  /// The format's name.
  static let format = "ctranslate2"
  /// What the format is; there are no zero points.
  static let traits = FormatTraits("a folder for CTranslate2: signed bytes", .folder, prefersSymmetric: true)
  /// The output.
  let output: ExportOutput
  /// What is left out, or has floats in place of quantized values.
  private(set) var notes: [String] = []
  private var variables: [CTranslate2Variable] = []
  private var aliases: [(name: String, target: String)] = []
  private var plan: [CTranslate2Tensor] = []
  private var description = JSONObject()
  private var vocabulary: [JSONValue] = []
  private var folder: OutputFolder?
  private var file: AtomicFile?
  private var places: [String: Int] = [:]

  /// A writer that has not begun.
  init(_ output: ExportOutput) { self.output = output }

  /// The encoder of blocks of the model that was accepted.
  var encoder: CTranslate2Encoder {
    CTranslate2Encoder(
      tensors: Dictionary(
        plan.flatMap { tensor in tensor.source.parts.map { ($0.tensor.name, tensor) } },
        uniquingKeysWith: { first, _ in first }))
  }

  /// The tensors that it takes of a model, in the order of writing.
  func accept(_ model: ExportedModel) throws -> [ExportedTensor] {
    try HuggingFaceLayout.check(model, canRestore: false)
    try OutputFolder.check(output.path, force: output.force, inputs: output.inputs)
    let layout = try CTranslate2Layout(model)
    let aliased = model.aliases
    var (left, floats): ([String], [String]) = ([], [])
    for entry in try SourceEntry.all(of: model, elementType: nil, keepsValues: { $0.shape.rank == 2 }) {
      guard let place = layout.place(of: entry.entry.name, rowCount: entry.entry.shape.rowCount) else {
        guard entry.parts.allSatisfy({ $0.tensor.use == nil }) else {
          throw Refusal(
            "export-layout", "CTranslate2's decoders have no such tensor", file: model.path, tensor: entry.entry.name,
            remedy: "export it --to safetensors")
        }
        left.append(entry.entry.name)
        continue
      }
      if place.name == "decoder/projection/weight", entry.parts.allSatisfy({ aliased.contains($0.tensor.name) }) {
        continue
      }
      let made = try CTranslate2Tensor(entry, place, of: model, floatType: output.elementType ?? .f32)
      if made.isDequantized { floats.append(entry.entry.name) }
      plan.append(made)
    }
    notes = [
      Self.note("CTranslate2 has no use for these, and they are left out", left),
      Self.note("floats, as their quantized values do not fit signed bytes; try --weight-scheme symmetric", floats),
    ].compactMap(\.self)
    variables = try gathered(model) + layout.constants
    if let large = variables.first(where: { $0.byteCount > Int(UInt32.max) }) {
      throw Refusal(
        "export-size", "takes more than 4 GB, which CTranslate2's file has no number for", file: model.path,
        tensor: large.name, remedy: "use --dtype f16, or --embedding-bits 8")
    }
    if !variables.contains(where: { $0.name == "decoder/projection/weight" }) {
      for end in ["weight", "weight_scale"] where variables.contains(where: { $0.name == "decoder/embeddings/\(end)" })
      {
        aliases.append(("decoder/projection/\(end)", "decoder/embeddings/\(end)"))
      }
    }
    variables.sort { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    description = layout.description
    vocabulary = try layout.vocabulary(model)
    return plan.flatMap { $0.source.parts.map(\.tensor) }
  }

  /// The variables of the model's tensors: queries, keys and values are one.
  private func gathered(_ model: ExportedModel) throws -> [CTranslate2Variable] {
    var rows: [String: [CTranslate2Tensor]] = [:]
    for tensor in plan { rows[tensor.place.name, default: []].append(tensor) }
    return try rows.flatMap { name, tensors -> [CTranslate2Variable] in
      let first = tensors[0]
      guard tensors.allSatisfy({ ($0.module == nil) == (first.module == nil) }) else {
        throw Refusal(
          "export-parts", "queries, keys and values are quantized in different ways", file: model.path,
          tensor: first.source.entry.name, remedy: "give all of them the same bits")
      }
      let rowCount = tensors.reduce(0) { $0 + $1.rowCount }
      let dimensions = [rowCount] + first.source.entry.shape.dimensions.dropFirst()
      let weight = CTranslate2Variable(name: name, dimensions: dimensions, type: first.type)
      guard first.module != nil else { return [weight] }
      return [weight, CTranslate2Variable(name: name + "_scale", dimensions: [rowCount], type: .f32)]
    }
  }

  /// Bytes that the tensors hardly stay below.
  func leastByteCount(of tensors: [ExportedTensor]) -> Int { variables.reduce(0) { $0 + $1.byteCount } }

  /// Begins the output.
  func begin(_ tensors: [ExportedTensor], of model: ExportedModel) throws {
    let folder = try OutputFolder(output.path, force: output.force, inputs: output.inputs)
    self.folder = folder
    let own = [ModelAttachments.Kind.configuration, .generationConfiguration].map(\.rawValue)
    for sidecar in model.files where !own.contains(sidecar.name) {
      try sidecar.withBytes { try folder.write(sidecar.name, $0) }
    }
    for (name, value) in [("config.json", JSONValue.object(description)), ("vocabulary.json", .array(vocabulary))] {
      try Array(value.text(pretty: true).utf8).withUnsafeBytes { try folder.write(name, $0) }
    }
    let file = try AtomicFile(path: folder.file("model.bin"))
    self.file = file
    var bytes = CTranslate2Bytes()
    bytes.word(6)
    bytes.string("TransformerDecoderSpec")
    bytes.word(8)
    bytes.word(variables.count)
    for variable in variables {
      bytes.string(variable.name)
      bytes.content.append(UInt8(variable.dimensions.count))
      for dimension in variable.dimensions { bytes.word(dimension) }
      bytes.content.append(variable.type.rawValue)
      bytes.word(variable.byteCount)
      try file.append(bytes.content)
      bytes.content = []
      places[variable.name] = file.byteCount
      if let constant = variable.constant {
        try file.append(constant)
      } else {
        try file.extend(to: file.byteCount + variable.byteCount)
      }
    }
    bytes.word(aliases.count)
    for (name, target) in aliases {
      bytes.string(name)
      bytes.string(target)
    }
    try file.append(bytes.content)
  }

  /// Writes the next block of the current tensor.
  func write(_ block: [PlacedBytes], of exported: ExportedTensor) throws {
    for placed in block {
      guard let start = places[placed.name] else { continue }
      try placed.bytes.withUnsafeBytes { try file?.write($0, at: start + placed.offset) }
    }
  }

  /// Ends the current tensor.
  func finish(_ exported: ExportedTensor) throws {}

  /// Ends the output and gives it its name.
  func commit(_ record: JSONObject) throws {
    try file?.commit()
    var record = record
    record["graph"] = nil
    try folder?.commit(record)
  }
}

private struct CTranslate2Bytes {
  var content: [UInt8] = []

  mutating func word(_ value: Int) {
    withUnsafeBytes(of: UInt32(truncatingIfNeeded: value).littleEndian) { content += $0 }
  }

  mutating func string(_ text: String) {
    withUnsafeBytes(of: UInt16(truncatingIfNeeded: text.utf8.count + 1).littleEndian) { content += $0 }
    content += Array(text.utf8) + [0]
  }
}
