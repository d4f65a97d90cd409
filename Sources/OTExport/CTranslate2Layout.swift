import OTCheckpoint
import OTFoundation
import OTGraph
import OTJSON

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

/// What CTranslate2 has of a model beside its tensors, and where these go.
struct CTranslate2Layout {
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
