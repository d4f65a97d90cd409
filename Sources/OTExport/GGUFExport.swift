import OTCheckpoint
import OTFoundation
import OTGraph
import OTJSON
import OTKernels
import OTQuantization
import OTTensor

/// Writes GGUF files for llama.cpp.
///
/// With a type of floats given, matrices are of that type. Else quantized values stay such where a type of ggml has
/// their form: Q6_K and Q8_0 from rows, Q4_0, Q4_1 and Q8_0 from groups; the scales become float16. Vectors are float32.
package final class GGUFExport: ModelWriter {
  /// The format's name.
  package static let format = "gguf"
  /// What the format is; few of ggml's types have zero points.
  package static let traits = FormatTraits(
    "a file for llama.cpp: quantized values, or with --dtype\nfloats", .file, prefersSymmetric: true)
  /// The output.
  package let output: ExportOutput
  /// What the format leaves out, and where it has floats in place of quantized values.
  package private(set) var notes: [String] = []
  private var keys: [(name: String, value: GGUFValue)] = []
  private var plan: [GGUFTensor] = []
  private var folded = FoldedScale(nil)
  private var constants: [(entry: GGUFWriter.Entry, values: [Float])] = []
  private var writer: GGUFWriter?
  private var buffer: SourceTensorBuffer?
  private var tensor = 0
  private var part = 0

  /// A writer that has not begun.
  package init(_ output: ExportOutput) { self.output = output }

  /// The encoder of blocks of the model that was accepted.
  package var encoder: GGUFEncoder {
    GGUFEncoder(
      tensors: Dictionary(
        plan.flatMap { tensor in tensor.source.parts.map { ($0.tensor.name, tensor) } },
        uniquingKeysWith: { first, _ in first }), folded: folded)
  }

  /// The tensors that it takes of a model, in the order of writing.
  package func accept(_ model: ExportedModel) throws -> [ExportedTensor] {
    try AtomicFile.check([output.path], force: output.force, inputs: output.inputs)
    try HuggingFaceLayout.check(model, canRestore: false)
    guard let graph = model.graph else {
      throw Refusal(
        "export-graph", "what it computes is not known", file: model.path,
        remedy: "export a model of a known family; a restored one first --to safetensors")
    }
    let facts = try GGUFFacts(model, graph)
    folded = FoldedScale(graph)
    var (left, floats): ([String], [String]) = ([], [])
    var tokenCount = 0
    let aliases = model.aliases
    for entry in try SourceEntry.all(of: model, elementType: nil, keepsValues: { $0.shape.rank == 2 }) {
      let rowCount = entry.entry.shape.rowCount
      guard let place = facts.layout.place(of: entry.entry.name, rowCount: rowCount) else {
        guard entry.parts.allSatisfy({ facts.mayLeaveOut($0.tensor) }) else {
          throw Refusal(
            "export-layout", "llama.cpp's '\(facts.layout.name)' has no such tensor", file: model.path,
            tensor: entry.entry.name, remedy: "export it --to safetensors")
        }
        left.append(entry.entry.name)
        continue
      }
      // A head that is the table is not stored again.
      if place.name == "output.weight", entry.parts.allSatisfy({ aliases.contains($0.tensor.name) }) { continue }
      if place.name == "output.weight", !facts.hasHead {
        throw Refusal(
          "export-architecture", "llama.cpp's '\(facts.layout.name)' has no head but the embedding", file: model.path,
          tensor: entry.entry.name, remedy: "export it --to safetensors")
      }
      let made = try GGUFTensor(entry, place, of: model, floatType: output.elementType)
      if made.isDequantized { floats.append(entry.entry.name) }
      if made.entry.name == "token_embd.weight" { tokenCount = rowCount }
      plan.append(made)
    }
    notes =
      [
        Self.note("llama.cpp has no use for these, and they are left out", left),
        Self.note("float16, as no type of llama.cpp has these quantized values; try --weight-scheme symmetric", floats),
      ].compactMap(\.self) + facts.notes
    constants = facts.constants
    keys =
      facts.keys + [
        ("general.quantization_version", .integer(2)), ("general.file_type", .integer(fileType)),
      ]
    keys += try tokenizerKeys(model, tokenCount)
    if !keys.contains(where: { $0.name == "tokenizer.ggml.tokens" || $0.name.hasSuffix(".vocab_size") }) {
      keys.append(("\(facts.layout.name).vocab_size", .integer(tokenCount)))
    }
    return plan.flatMap { $0.source.parts.map(\.tensor) }
  }

  /// The type that most elements of matrices have, by llama.cpp's number.
  private var fileType: Int {
    var counts: [GGUFType: Int] = [:]
    for tensor in plan where tensor.entry.shape.rank > 1 {
      counts[tensor.entry.type, default: 0] += tensor.entry.shape.elementCount
    }
    let main = counts.max { ($0.value, $0.key.rawValue) < ($1.value, $1.key.rawValue) }?.key
    return main.flatMap { [.f32: 0, .f16: 1, .q4v0: 2, .q4v1: 3, .q8v0: 7, .q6K: 18, .bf16: 32][$0] } ?? 0
  }

  private func tokenizerKeys(_ model: ExportedModel, _ tokenCount: Int) throws -> [(name: String, value: GGUFValue)] {
    guard let tokenizer = try model.file(.tokenizer)?.json() else {
      notes.append("has no tokenizer: llama.cpp can be given token ids alone")
      return [("tokenizer.ggml.model", .string("no_vocab"))]
    }
    let template = model.file(.chatTemplate)?.withBytes { String(decoding: $0, as: UTF8.self) }
    return try GGUFVocabulary(
      tokenizer: tokenizer, configuration: model.file(.tokenizerConfiguration)?.json(),
      special: model.file(.specialTokens)?.json(), model: .object(model.configuration()),
      template: try template ?? model.file(.chatTemplates)?.json()["chat_template"]?.string, tokenCount: tokenCount,
      file: model.path
    ).keys()
  }

  /// Bytes that the tensors hardly stay below.
  package func leastByteCount(of tensors: [ExportedTensor]) -> Int { plan.reduce(0) { $0 + $1.entry.byteCount } }

  /// Begins the output.
  package func begin(_ tensors: [ExportedTensor], of model: ExportedModel) throws {
    writer = try GGUFWriter(
      path: output.path, keys: keys, tensors: constants.map(\.entry) + plan.map(\.entry), force: output.force,
      inputs: output.inputs)
    for (entry, values) in constants { try values.withUnsafeBytes { try writer?.put($0, of: entry.name, at: 0) } }
  }

  /// Writes the next block of the current tensor.
  package func write(_ block: GGUFEncoder.Encoded, of exported: ExportedTensor) throws {
    for placed in block.placed {
      try placed.bytes.withUnsafeBytes { try writer?.put($0, of: placed.name, at: placed.offset) }
    }
    guard let (bytes, rows) = block.scattered else { return }
    if buffer == nil { buffer = SourceTensorBuffer(plan[tensor].source) }
    buffer?.put(bytes, rows: rows, of: plan[tensor].source.parts[part].place)
  }

  /// Ends the current tensor.
  package func finish(_ exported: ExportedTensor) throws {
    part += 1
    let current = plan[tensor]
    guard part == current.source.parts.count else { return }
    if let buffer { try buffer.bytes.withUnsafeBytes { try writer?.put($0, of: current.entry.name, at: 0) } }
    (buffer, part, tensor) = (nil, 0, tensor + 1)
  }

  /// Ends the output and gives it its name.
  package func commit(_ record: JSONObject) throws {
    if let writer = writer.take() { try writer.commit() }
  }
}

/// A tensor of the file, and the source's that it is made of.
struct GGUFTensor: Sendable {
  let entry: GGUFWriter.Entry
  let source: SourceEntry
  let place: GGUFLayout.Place
  /// Where its quantized values stay such.
  let module: QuantizedModule?
  /// True where it has floats since no type has its quantized values.
  let isDequantized: Bool

  init(_ source: SourceEntry, _ place: GGUFLayout.Place, of model: ExportedModel, floatType: ElementType?) throws {
    let shape = source.entry.shape
    let isMatrix = shape.rank > 1 && !["position_embd.weight", "token_types.weight"].contains(place.name)
    var (type, module, isDequantized): (GGUFType?, QuantizedModule?, Bool) = (nil, nil, false)
    if isMatrix, source.parts.contains(where: { $0.tensor.scheme != nil }) {
      if floatType == nil {
        let quantized = try QuantizedModule(source, of: model)
        type = try GGUFTensor.type(of: quantized, model)
        module = type.map { _ in quantized }
      }
      isDequantized = floatType == nil && type == nil
      if isDequantized { type = .f16 }
    }
    let own = source.entry.elementType
    let wanted = type ?? (isMatrix ? GGUFType(floatType ?? (own == .f64 ? .f32 : own)) : .f32)
    guard let wanted, own.isConvertibleFloat else {
      throw Refusal(
        "export-layout", "has elements \(own.rawValue), for which llama.cpp has no use", file: model.path,
        tensor: source.entry.name)
    }
    var made = source
    made.parts = source.parts.map { part in
      var tensor = part.tensor
      // Floats come as float32: they are changed before they become what the file has.
      if module == nil { tensor.content = .plain(.f32) }
      tensor.constant -= place.constant
      return SourceEntry.Part(tensor: tensor, place: part.place)
    }
    guard place.keepsOrder || made.isOfRows else {
      throw Refusal(
        "export-layout", "its rows are not whole, and are put in another order", file: model.path,
        tensor: source.entry.name)
    }
    entry = GGUFWriter.Entry(name: place.name, shape: shape, type: wanted)
    (self.source, self.place, self.module, self.isDequantized) = (made, place, module, isDequantized)
  }

  /// The type that has such quantized values; nil where none has, and floats will do.
  private static func type(of module: QuantizedModule, _ model: ExportedModel) throws -> GGUFType? {
    let scheme = module.scheme
    guard module.columnCount % 32 == 0 else { return nil }
    if case .perGroup(let size) = scheme.granularity {
      guard size % 32 == 0 else {
        throw Refusal(
          "export-groups", "groups of \(size) are not made of ggml's blocks of 32", file: model.path,
          tensor: module.entry.entry.name, remedy: "use --group-size 32, or leave it out")
      }
      if scheme.bits <= 4 { return scheme.isSymmetric ? .q4v0 : .q4v1 }
    } else if scheme.bits <= 6, scheme.isSymmetric, module.columnCount % 256 == 0 {
      return .q6K
    }
    if module.fitsSignedBytes { return .q8v0 }
    // Tables and heads are asymmetric unless the user says otherwise.
    guard module.entry.parts.contains(where: { $0.tensor.use?.linearRole == .block }) else { return nil }
    throw module.signedBytesRefusal(of: model, also: "--dtype f16")
  }

  /// Whole rows of a part, from `rows` on, with their places in the file.
  func placed(_ bytes: [UInt8], _ rows: Range<Int>, of tensor: ExportedTensor) -> [PlacedBytes] {
    let first = source.firstRow(of: tensor) + rows.lowerBound
    guard !place.keepsOrder else {
      return [PlacedBytes(name: entry.name, offset: first * (bytes.count / max(rows.count, 1)), bytes: bytes)]
    }
    return PlacedBytes.rows(
      entry.name, bytes, from: first, count: rows.count, place, of: entry.shape.rowCount)
  }
}

/// Encodes the blocks of GGUF files.
package struct GGUFEncoder: TensorEncoder {
  /// Bytes with their places; those of a tensor that is put together in memory name its rows.
  package struct Encoded: Sendable {
    var placed: [PlacedBytes] = []
    var scattered: (bytes: [UInt8], rows: Range<Int>)?
  }

  /// By the names of their parameters.
  let tensors: [String: GGUFTensor]
  let folded: FoldedScale

  /// Encodes rows of a quantized tensor.
  package func encode(_ rows: QuantizedRows, of tensor: ExportedTensor) throws -> Encoded {
    guard let made = tensors[tensor.name], let module = made.module else {
      preconditionFailure("asked for other quantized tensors")
    }
    let blocks = GGUFBlocks(made.entry.type, module, factor: folded.factor(tensor.use))
    return Encoded(placed: made.placed(try blocks.encode(rows, name: tensor.name), rows.rows, of: tensor))
  }

  /// Encodes rows of another tensor.
  package func encode(_ bytes: UnsafeRawBufferPointer, rows: Range<Int>, of tensor: ExportedTensor) throws -> Encoded {
    guard let made = tensors[tensor.name], let type = made.entry.type.elementType else {
      preconditionFailure("asked for other tensors")
    }
    let factor = folded.factor(tensor.use)
    let values = FloatBytes.floats(bytes).map { $0 * factor }
    let encoded = try FloatBytes.with(
      values, as: type, of: tensor.name, in: nil, remedy: "use --dtype f32 or bf16"
    ) { Array($0) }
    guard made.source.isOfRows else { return Encoded(scattered: (encoded, rows)) }
    return Encoded(placed: made.placed(encoded, rows, of: tensor))
  }
}

/// Quantized values as blocks of ggml.
private struct GGUFBlocks {
  let type: GGUFType
  let module: QuantizedModule
  /// Of the scales.
  let factor: Float

  init(_ type: GGUFType, _ module: QuantizedModule, factor: Float) {
    (self.type, self.module, self.factor) = (type, module, factor)
  }

  /// - Throws: `Refusal` with rule `value-overflow` where a scale does not fit float16.
  func encode(_ rows: QuantizedRows, name: String) throws -> [UInt8] {
    let (columns, count) = (module.columnCount, type.blockElementCount)
    let scales = rows.scales.map { $0 * factor }
    let halves = try GGUFBlocks.halves(scales, name)
    let minima =
      type == .q4v1
      ? try GGUFBlocks.halves(scales.indices.map { -scales[$0] * Float(module.zeroPoint(rows, $0)) }, name) : []
    let groupSize = module.scheme.groupSize(columnCount: columns)
    var bytes: [UInt8] = []
    bytes.reserveCapacity(rows.rows.count * type.rowByteCount(columns))
    for row in 0..<rows.rows.count {
      for first in stride(from: 0, to: columns, by: count) {
        let group = row * module.groupCount + first / groupSize
        let codes = rows.values[row * columns + first..<row * columns + first + count]
        let zero = UInt8(truncatingIfNeeded: module.zeroPoint(rows, group))
        switch type {
        case .q8v0:
          bytes += halves[group * 2..<group * 2 + 2]
          for code in codes { bytes.append(code &- zero) }
        case .q4v0:
          bytes += halves[group * 2..<group * 2 + 2]
          put(codes, plus: 8 &- zero, to: &bytes)
        case .q4v1:
          bytes += halves[group * 2..<group * 2 + 2]
          bytes += minima[group * 2..<group * 2 + 2]
          put(codes, plus: 0, to: &bytes)
        default:
          putSixBits(codes, plus: 32 &- zero, to: &bytes)
          bytes += halves[group * 2..<group * 2 + 2]
        }
      }
    }
    return bytes
  }

  /// 32 codes of 4 bits: those of the first half are the low nibbles.
  private func put(_ codes: ArraySlice<UInt8>, plus offset: UInt8, to bytes: inout [UInt8]) {
    let start = codes.startIndex
    for index in start..<start + 16 { bytes.append((codes[index] &+ offset) | (codes[index + 16] &+ offset) << 4) }
  }

  /// 256 codes of 6 bits, low nibbles before the rest, and a scale of 1 for every 16.
  private func putSixBits(_ codes: ArraySlice<UInt8>, plus offset: UInt8, to bytes: inout [UInt8]) {
    func code(_ half: Int, _ strip: Int, _ index: Int) -> UInt8 {
      codes[codes.startIndex + half * 128 + strip * 32 + index] &+ offset
    }
    for half in 0..<2 {
      for strip in 0..<2 {
        for index in 0..<32 { bytes.append(code(half, strip, index) & 15 | (code(half, strip + 2, index) & 15) << 4) }
      }
    }
    for half in 0..<2 {
      for index in 0..<32 {
        bytes.append((0..<4).reduce(0) { $0 | (code(half, $1, index) >> 4) << UInt8(2 * $1) })
      }
    }
    bytes += [UInt8](repeating: 1, count: 16)
  }

  private static func halves(_ values: [Float], _ name: String) throws -> [UInt8] {
    try FloatBytes.with(values, as: .f16, of: name, in: nil, remedy: "use --dtype f32 or bf16") { Array($0) }
  }
}
