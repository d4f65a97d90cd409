import OTCheckpoint
import OTFoundation
import OTGraph
import OTJSON
import OTQuantization
import OTTensor

/// Writes folders for CTranslate2: one file of variables, in which linears and tables are signed bytes with the inverse
/// of a scale for each row.
final class CTranslate2Export: ModelWriter {
  /// The format's name.
  static let format = "ctranslate2"
  /// There are no zero points.
  static let prefersSymmetric = true
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
    let aliased = Set(
      model.tensors.compactMap { tensor in if case .alias = tensor.content { tensor.name } else { nil } })
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
    func note(_ names: [String], _ what: String) {
      guard let first = names.first else { return }
      notes.append("\(what): '\(first)'" + (names.count > 1 ? " and \(names.count - 1) more" : ""))
    }
    note(left, "CTranslate2 has no use for these, and they are left out")
    note(floats, "floats, as their quantized values do not fit signed bytes; try --weight-scheme symmetric")
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

/// A variable of the file.
struct CTranslate2Variable: Sendable {
  /// The format's number of a type of elements.
  enum Kind: UInt8, Sendable {
    case f32 = 0
    case i8 = 1
    case i16 = 2
    case i32 = 3
    case f16 = 4
    case bf16 = 5

    var byteCount: Int {
      switch self {
      case .i8: 1
      case .i16, .f16, .bf16: 2
      case .f32, .i32: 4
      }
    }
  }

  let name: String
  let dimensions: [Int]
  let type: Kind
  /// What it always is; nil for those of tensors.
  var constant: [UInt8]?

  var byteCount: Int { dimensions.reduce(type.byteCount, *) }

  /// A number.
  init(_ name: String, _ value: Int, _ type: Kind) {
    (self.name, dimensions, self.type) = (name, [], type)
    constant = withUnsafeBytes(of: Int32(truncatingIfNeeded: value).littleEndian) { Array($0.prefix(type.byteCount)) }
  }

  init(_ name: String, _ value: Float) {
    (self.name, dimensions, type) = (name, [], .f32)
    constant = withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) }
  }

  init(name: String, dimensions: [Int], type: Kind) {
    (self.name, self.dimensions, self.type) = (name, dimensions, type)
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

/// What CTranslate2 has of a model beside its tensors, and where these go.
private struct CTranslate2Layout {
  /// The place of a tensor: rows from `firstRow` on of a variable, less the first `skipped` of its own.
  struct Place: Sendable {
    let name: String
    var firstRow = 0
    var skipped = 0
    var order: GGUFLayout.Place?
  }

  private(set) var constants: [CTranslate2Variable] = []
  private(set) var description = JSONObject()
  private let type: String
  private let vocabularySize: Int
  private let path: String
  private let queries, keys: Int
  /// BLOOM's queries, keys and values are put in the order that llama.cpp has too.
  private let bloom: GGUFLayout?

  private static let llama = [
    "input_layernorm": "self_attention/layer_norm", "self_attn.q_proj": "self_attention/linear_0",
    "self_attn.k_proj": "self_attention/linear_0", "self_attn.v_proj": "self_attention/linear_0",
    "self_attn.o_proj": "self_attention/linear_1", "post_attention_layernorm": "ffn/layer_norm",
    "mlp.gate_proj": "ffn/linear_0", "mlp.up_proj": "ffn/linear_0_noact", "mlp.down_proj": "ffn/linear_1",
  ]
  private static let opt = [
    "self_attn_layer_norm": "self_attention/layer_norm", "self_attn.q_proj": "self_attention/linear_0",
    "self_attn.k_proj": "self_attention/linear_0", "self_attn.v_proj": "self_attention/linear_0",
    "self_attn.out_proj": "self_attention/linear_1", "final_layer_norm": "ffn/layer_norm", "fc1": "ffn/linear_0",
    "fc2": "ffn/linear_1",
  ]
  private static let blooms = [
    "input_layernorm": "self_attention/layer_norm", "self_attention.query_key_value": "self_attention/linear_0",
    "self_attention.dense": "self_attention/linear_1", "post_attention_layernorm": "ffn/layer_norm",
    "mlp.dense_h_to_4h": "ffn/linear_0", "mlp.dense_4h_to_h": "ffn/linear_1",
  ]
  private static let outer = [
    "embed_tokens": "embeddings", "word_embeddings": "embeddings", "norm": "layer_norm", "ln_f": "layer_norm",
    "final_layer_norm": "layer_norm", "lm_head": "projection", "word_embeddings_layernorm": "layernorm_embedding",
  ]

  init(_ model: ExportedModel) throws {
    path = model.path
    let configuration = try model.configuration()
    let type = configuration["model_type"]?.string ?? ""
    self.type = type == "mistral" ? "llama" : type
    func refusal(_ rule: String, _ message: String) -> Refusal {
      Refusal(rule, message, file: model.path, remedy: "export it --to safetensors")
    }
    guard let graph = model.graph, ["llama", "opt", "bloom"].contains(self.type) else {
      throw refusal(
        "export-model-type",
        "models of the type '\(type)' are not written for CTranslate2: llama, mistral, opt, bloom are")
    }
    let attentions = graph.nodes.compactMap { node in
      if case .attention(let attention) = node.operation { attention } else { nil }
    }
    guard let first = attentions.first, first.hasKnownHeads, attentions.allSatisfy({ $0 == first }),
      first.window == nil, first.softCap == nil, graph.outputs["logits"] != nil,
      graph.hiddenNode.flatMap(graph.channelCount) == first.headCount * first.headSize,
      configuration["do_layer_norm_before"]?.bool ?? true,
      configuration["apply_residual_connection_post_layernorm"]?.bool != true
    else {
      throw refusal("export-architecture", "its attention or its norms are none that CTranslate2 computes")
    }
    (queries, keys) = (first.headCount * first.headSize, first.keyValueHeadCount * first.headSize)
    vocabularySize = graph.vocabularySize ?? 0
    bloom =
      type == "bloom"
      ? GGUFLayout(modelType: type, headCount: first.headCount, keyValueHeadCount: first.headCount) : nil
    var epsilon: Float?
    var kind: Int?
    for node in graph.nodes {
      switch node.operation {
      case .rmsNorm(let norm), .layerNorm(let norm): epsilon = norm.epsilon
      default: break
      }
      if case .activation(let activation) = node.operation {
        kind = [ActivationKind.relu: 0, .geluTanh: 1, .silu: 2, .gelu: 3][activation]
      }
    }
    guard let kind else { throw refusal("export-architecture", "its activation function is none of CTranslate2's") }
    let isBloom = type == "bloom"
    constants = [
      .init("decoder/activation", kind, .i8), .init("decoder/alibi", isBloom ? 1 : 0, .i8),
      .init("decoder/alibi_use_positive_positions", isBloom ? 1 : 0, .i8), .init("decoder/alignment_heads", 1, .i16),
      .init("decoder/alignment_layer", -1, .i16), .init("decoder/num_heads", first.headCount, .i16),
      .init("decoder/pre_norm", 1, .i8), .init("decoder/scale_alibi", 0, .i8),
      .init("decoder/scale_embeddings", 0, .i8), .init("decoder/start_from_zero_embedding", 0, .i8),
    ]
    if case .rotary(let rotary) = first.positions {
      guard rotary.scaling == .none, rotary.dimensions == first.headSize else {
        throw refusal("export-rotary", "its rotation is scaled, or of a part of each head")
      }
      for index in attentions.indices {
        let prefix = "decoder/layer_\(index)/self_attention/"
        constants += [
          .init(prefix + "num_heads_kv", first.keyValueHeadCount, .i32),
          .init(prefix + "rotary_base", Float(rotary.theta)),
          .init(prefix + "rotary_dim", 0, .i32), .init(prefix + "rotary_interleave", 0, .i8),
        ]
      }
    }
    let tokens = try model.file(.tokenizerConfiguration)?.json()
    for name in ["bos_token", "eos_token", "unk_token"] {
      let text = tokens?[name]?.string ?? tokens?[name]?["content"]?.string
      description[name] = .string(text ?? (name == "bos_token" ? "<s>" : name == "eos_token" ? "</s>" : "<unk>"))
    }
    description["layer_norm_epsilon"] = epsilon.map { .number(Double($0)) } ?? .null
    description["multi_query_attention"] = .bool(false)
  }

  /// The place of a tensor, whatever goes before its name; nil where there is none.
  func place(of name: String, rowCount: Int) -> Place? {
    let parts = name.split(separator: ".").map(String.init)
    guard let end = parts.last, ["weight", "bias"].contains(end), parts.count > 1 else { return nil }
    func variable(_ stem: String) -> String {
      let isNorm = stem.hasSuffix("layer_norm") || stem.hasSuffix("layernorm_embedding")
      return "decoder/\(stem)/" + (isNorm ? end == "weight" ? "gamma" : "beta" : end)
    }
    guard let layer = parts.firstIndex(where: { Int($0) != nil }) else {
      let stem = parts[parts.count - 2]
      if stem == "embed_positions" { return Place(name: "decoder/position_encodings/encodings", skipped: 2) }
      return Self.outer[stem].map { Place(name: variable($0)) }
    }
    let stem = parts[(layer + 1)..<parts.count - 1].joined(separator: ".")
    let names = type == "llama" ? Self.llama : type == "opt" ? Self.opt : Self.blooms
    guard let target = names[stem] else { return nil }
    var place = Place(name: variable("layer_\(parts[layer])/\(target)"))
    if stem.hasSuffix("k_proj") { place.firstRow = queries }
    if stem.hasSuffix("v_proj") { place.firstRow = queries + keys }
    if stem.hasSuffix("query_key_value") { place.order = bloom?.place(of: name, rowCount: rowCount) }
    return place
  }

  /// A token for each row of the embedding.
  func vocabulary(_ model: ExportedModel) throws -> [JSONValue] {
    guard let root = try model.file(.tokenizer)?.json() else {
      throw Refusal(
        "export-tokenizer", "has no tokenizer, and CTranslate2 needs its tokens", file: path,
        remedy: "put tokenizer.json beside the checkpoint")
    }
    var tokens = [String?](repeating: nil, count: vocabularySize)
    func add(_ token: String, _ id: Int?) throws {
      guard let id, tokens.indices.contains(id) else {
        throw Refusal(
          "export-tokenizer", "the token '\(token.prefix(40))' has no row of the embedding", file: path,
          remedy: "export it --to safetensors")
      }
      tokens[id] = token
    }
    if let pieces = root["model"]?["vocab"]?.array {
      for (id, piece) in pieces.enumerated() { try add(piece.array?.first?.string ?? "", id) }
    }
    for (token, id) in root["model"]?["vocab"]?.object?.members ?? [] { try add(token, id.integer) }
    for token in root["added_tokens"]?.array ?? [] { try add(token["content"]?.string ?? "", token["id"]?.integer) }
    return tokens.enumerated().map { .string($1 ?? "<extra_id_\($0)>") }
  }
}

/// A tensor of the source on its way to its variable.
private struct CTranslate2Tensor: Sendable {
  let source: SourceEntry
  let place: CTranslate2Layout.Place
  let module: QuantizedModule?
  let type: CTranslate2Variable.Kind
  let elementType: ElementType
  let isDequantized: Bool

  /// Rows of the variable.
  var rowCount: Int { source.entry.shape.rowCount - place.skipped }

  init(
    _ source: SourceEntry, _ place: CTranslate2Layout.Place, of model: ExportedModel, floatType: ElementType
  ) throws {
    var module: QuantizedModule?
    var isDequantized = false
    if place.skipped == 0, source.parts.contains(where: { $0.tensor.scheme != nil }) {
      let quantized = try QuantizedModule(source, of: model)
      let isBlock = source.parts.contains { $0.tensor.use?.linearRole == .block }
      func refusal(_ rule: String, _ message: String, _ remedy: String) -> Refusal {
        Refusal(rule, message, file: model.path, tensor: source.entry.name, remedy: remedy)
      }
      if quantized.scheme.granularity != .perChannel {
        throw refusal("export-groups", "CTranslate2 has one scale for a row", "leave out --group-size")
      }
      if quantized.scheme.isSymmetric || quantized.scheme.bits < 8 {
        module = quantized
      } else if isBlock {
        throw refusal(
          "export-asymmetric", "asymmetric values of 8 bits, less their zero points, do not fit a signed byte",
          "use --weight-scheme symmetric, or at most 7 bits")
      } else {
        isDequantized = true
      }
    }
    guard source.isOfRows else {
      throw Refusal(
        "export-layout", "is not stored row by row, as the format has it", file: model.path, tensor: source.entry.name,
        remedy: "export it --to safetensors")
    }
    var made = source
    made.parts = source.parts.map { part in
      var tensor = part.tensor
      if module == nil { tensor.content = .plain(.f32) }
      return SourceEntry.Part(tensor: tensor, place: part.place)
    }
    (self.source, self.place, self.module, self.isDequantized) = (made, place, module, isDequantized)
    elementType = [.f16, .bf16].contains(floatType) ? floatType : .f32
    type = module != nil ? .i8 : elementType == .f16 ? .f16 : elementType == .bf16 ? .bf16 : .f32
  }

  /// Rows with their places in a variable.
  func placed(_ name: String, _ bytes: [UInt8], firstRow: Int, rowCount: Int) -> [PlacedBytes] {
    guard rowCount > 0 else { return [] }
    let size = bytes.count / rowCount
    let count = source.entry.shape.rowCount
    guard place.order == nil else {
      return (0..<rowCount).map { row in
        PlacedBytes(
          name: name, offset: (place.order?.row(firstRow + row, rowCount: count) ?? 0) * size,
          bytes: Array(bytes[row * size..<(row + 1) * size]))
      }
    }
    let skipped = max(0, min(rowCount, place.skipped - firstRow))
    guard skipped < rowCount else { return [] }
    return [
      PlacedBytes(
        name: name, offset: (place.firstRow + firstRow + skipped - place.skipped) * size,
        bytes: Array(bytes[(skipped * size)...]))
    ]
  }

  /// The first row of a part in the source's tensor.
  func firstRow(of tensor: ExportedTensor) -> Int {
    source.parts.first { $0.tensor.name == tensor.name }?.place.box[0].lowerBound ?? 0
  }
}

/// Encodes blocks of CTranslate2's variables.
struct CTranslate2Encoder: TensorEncoder {
  fileprivate let tensors: [String: CTranslate2Tensor]

  /// Rows of a block of the tensor.
  func rowsPerBlock(of tensor: ExportedTensor) -> Int {
    max(1, (1 << 18) / max(tensor.shape.rowElementCount * (tensor.scheme == nil ? 4 : 1), 1))
  }

  /// Encodes rows of a quantized tensor.
  func encode(_ rows: QuantizedRows, of tensor: ExportedTensor) throws -> [PlacedBytes] {
    guard let made = tensors[tensor.name], let module = made.module else {
      preconditionFailure("asked for other quantized tensors")
    }
    let columns = module.columnCount
    var bytes = rows.values
    for row in 0..<rows.rows.count {
      let zero = UInt8(truncatingIfNeeded: module.zeroPoint(rows, row))
      for index in row * columns..<(row + 1) * columns { bytes[index] &-= zero }
    }
    let first = made.firstRow(of: tensor) + rows.rows.lowerBound
    let inverses = rows.scales.map { 1 / $0 }.withUnsafeBytes { Array($0) }
    return made.placed(made.place.name, bytes, firstRow: first, rowCount: rows.rows.count)
      + made.placed(made.place.name + "_scale", inverses, firstRow: first, rowCount: rows.rows.count)
  }

  /// Encodes rows of another tensor.
  func encode(
    _ bytes: UnsafeRawBufferPointer, rows: Range<Int>, of tensor: ExportedTensor
  ) throws -> [PlacedBytes] {
    guard let made = tensors[tensor.name] else { preconditionFailure("asked for other tensors") }
    let encoded = try FloatBytes.with(
      FloatBytes.floats(bytes), as: made.elementType, of: tensor.name, in: nil, remedy: "use --dtype f32"
    ) { Array($0) }
    return made.placed(
      made.place.name, encoded, firstRow: made.firstRow(of: tensor) + rows.lowerBound, rowCount: rows.count)
  }
}
