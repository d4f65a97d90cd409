import OTJSON

/// How llama.cpp keeps a kind of models: names, values that it changes, and keys of the configuration.
///
/// A name is a stem and `.weight` or `.bias`; `blk.N.` goes before those of a layer. A stem of the model's that ends in
/// `=` is a whole name.
struct GGUFArchitecture: Sendable {
  /// What is done to a tensor on the way back to the model's own form.
  enum Change: Sendable {
    /// Rows of queries or keys whose halves alternate, for heads counted by this key.
    case alternating(headsKey: String)
    /// Queries, keys and values of all heads, which the model has head by head.
    case fused
    /// Gains that are stored plus 1.
    case plusOne
    /// Stored `[out, in]`, in the model `[in, out]`.
    case transposed
    /// Queries, keys and values one below the other, which the model has by groups of heads that share keys.
    case grouped
    /// Queries, keys and values one below the other, which the model has as tensors with these stems.
    case split([String])
    /// A stack, of which the model has each element as a tensor: its index takes the place of `{}` in the stem.
    case elements
    /// A vector, which the model has as a matrix of one row.
    case row
  }

  /// `model_type` and the architecture in config.json.
  let modelType, className: String
  /// The model's stems outside of layers by llama.cpp's.
  let outer: [String: String]
  /// What goes before a layer's index in the model's names.
  let layers: String
  /// The model's stems within layers by llama.cpp's.
  let inner: [String: String]
  /// What is done to tensors, by llama.cpp's stems.
  let changes: [String: Change]
  /// Members of config.json by keys behind the architecture's name.
  let members: [String: String]
  /// Keys that are read elsewhere, or that change nothing.
  private(set) var otherKeys: Set<String>
  /// Members of config.json that no key says.
  let constants: JSONObject
  /// The member for the part of a head that is rotated, where it may be a part; nil: heads are rotated whole.
  private(set) var partMember: String?
  /// Members of a rotation by YaRN that no key says.
  var yarnMembers: JSONObject { modelType == "gpt_oss" ? ["truncate": .bool(false)] : [:] }
  /// True for a mixture of experts.
  private(set) var hasExperts = false
  /// Layers of the largest model, which alone has another factor of products in attention; nil: all have the same.
  private(set) var layersOfLargest: Int?
  /// Sets members that follow of several keys, or of tensors.
  private(set) var finish: Finish = { _, _ in }

  /// Given the model, sets members of config.json.
  typealias Finish = @Sendable (GGUFModel, inout JSONObject) throws -> Void

  /// How models of the architecture called `name` are kept, which have experts or none, and two norms before attention
  /// and MLP or one; nil for what is not read.
  static func named(_ name: String, hasExperts: Bool, hasTwoNorms: Bool) -> GGUFArchitecture? {
    switch name {
    case "llama" where hasExperts: mixtral
    case "falcon" where hasTwoNorms: falconOfTwoNorms
    default: all[name]
    }
  }

  static let all: [String: GGUFArchitecture] = [
    "llama": llama, "qwen2": qwen2, "qwen3": qwen3, "gemma": gemma, "gemma2": gemma2, "gemma3": gemma3, "phi3": phi3,
    "olmo2": olmo2, "granite": granite, "smollm3": smollm3, "bloom": bloom, "gpt2": gpt2, "bert": bert,
    "qwen2moe": qwen2moe, "qwen3moe": qwen3moe, "deepseek2": deepseek2, "phi2": phi2, "stablelm": stablelm,
    "command-r": commandR, "cohere2": cohere2, "olmo": olmo, "nemotron": nemotron, "glm4": glm4, "chatglm": chatglm,
    "exaone4": exaone4, "starcoder2": starcoder2, "gptneox": gptneox, "falcon": falcon, "starcoder": starcoder,
    "mpt": mpt, "nomic-bert": nomicBERT, "gpt-oss": gptOSS, "mistral3": mistral3,
  ]

  // MARK: Names

  /// The place in the model of a tensor in the file, and llama.cpp's stem of that; nil for one that the kind does not
  /// have.
  func original(of name: String) -> (place: Place, stem: String)? {
    let parts = name.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    guard let end = parts.last, GGUFArchitecture.ends.contains(end) else { return nil }
    if parts.count == 2, let stem = outer[parts[0]] {
      return (Place(before: "", stem: stem, end: end), parts[0])
    }
    guard parts.count >= 4, parts[0] == "blk", let index = Int(parts[1]), String(index) == parts[1], index >= 0 else {
      return nil
    }
    let before = "\(layers)\(index)."
    if parts.count == 4, let stem = inner[parts[2]] { return (Place(before: before, stem: stem, end: end), parts[2]) }
    // Experts that older files have one by one.
    guard parts.count == 5, let stem = inner[parts[2] + "_exps"], let expert = Int(parts[3]),
      String(expert) == parts[3], expert >= 0
    else { return nil }
    return (Place(before: before, stem: stem.replacing("{}", with: parts[3]), end: end), parts[2])
  }

  /// A tensor's place in the model: its name, in parts.
  struct Place {
    let before, stem, end: String

    var name: String { stem.hasSuffix("=") ? before + stem.dropLast() : "\(before)\(stem).\(end)" }

    /// The same with another stem.
    func with(stem: String) -> Place { Place(before: before, stem: stem, end: end) }
  }

  /// The same the other way: the name in the file of a tensor of the model.
  func stored(of name: String) -> (name: String, stem: String)? {
    guard let dot = name.lastIndex(of: "."), GGUFArchitecture.ends.contains(String(name[name.index(after: dot)...]))
    else { return nil }
    let (own, end) = (String(name[..<dot]), name[dot...])
    if let stem = outer.first(where: { $0.value == own })?.key { return (stem + end, stem) }
    guard own.hasPrefix(layers) else { return nil }
    let parts = own.dropFirst(layers.count).split(separator: ".", maxSplits: 1).map(String.init)
    guard parts.count == 2, let index = Int(parts[0]), String(index) == parts[0], index >= 0,
      let stem = inner.first(where: { $0.value == parts[1] })?.key
    else { return nil }
    return ("blk.\(index).\(stem)\(end)", stem)
  }

  private static let ends = ["weight", "bias"]

  // MARK: Making them

  static let decoderMembers = [
    "block_count": "num_hidden_layers", "context_length": "max_position_embeddings", "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size", "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads", "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.key_length": "head_dim", "rope.freq_base": "rope_theta",
  ]
  static let decoderInner = [
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
  ]

  init(
    modelType: String, className: String, outer: [String: String], layers: String, inner: [String: String],
    changes: [String: Change] = [:], members: [String: String], otherKeys: Set<String>, constants: JSONObject = [:],
    partMember: String? = nil, hasExperts: Bool = false, layersOfLargest: Int? = nil,
    finish: @escaping Finish = { _, _ in }
  ) {
    self.layersOfLargest = layersOfLargest
    (self.modelType, self.className, self.outer, self.layers) = (modelType, className, outer, layers)
    (self.inner, self.changes, self.members) = (inner, changes, members)
    (self.otherKeys, self.constants) = (otherKeys, constants)
    (self.partMember, self.hasExperts, self.finish) = (partMember, hasExperts, finish)
  }

  /// A decoder with LLaMA's names, more of them, and without some.
  ///
  /// - Parameter epsilon: the member for the ε of LayerNorms; nil: it has RMSNorms.
  init(
    decoder modelType: String, _ className: String, inner: [String: String] = [:], without: [String] = [],
    changes: [String: Change] = [:], members: [String: String] = [:], epsilon: String? = nil,
    otherKeys: Set<String> = [], constants: JSONObject = ["hidden_act": .string("silu")], partMember: String? = nil,
    hasExperts: Bool = false, layersOfLargest: Int? = nil, finish: @escaping Finish = { _, _ in }
  ) {
    var known = Self.decoderMembers
    if let epsilon {
      known["attention.layer_norm_rms_epsilon"] = nil
      known["attention.layer_norm_epsilon"] = epsilon
    }
    self.init(
      modelType: modelType, className: className,
      outer: ["token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"],
      layers: "model.layers.",
      inner: Self.decoderInner.filter { !without.contains($0.key) }.merging(inner) { $1 }, changes: changes,
      members: known.merging(members) { $1 },
      otherKeys: otherKeys.union([
        "vocab_size", "rope.dimension_count", "attention.value_length", "attention.causal", "expert_count",
        "expert_used_count", "tensor_data_layout", "pooling_type", "rope.scaling.type", "rope.scaling.factor",
        "rope.scaling.original_context_length", "rope.scaling.attn_factor", "rope.scaling.yarn_beta_fast",
        "rope.scaling.yarn_beta_slow", "rope.scaling.finetuned",
        "rope.scale_linear",
      ]), constants: constants, partMember: partMember, hasExperts: hasExperts,
      layersOfLargest: layersOfLargest, finish: finish)
  }
}
