import OTJSON

/// How llama.cpp keeps a kind of models: names, values that it changes, and keys of the configuration.
///
/// A name is a stem and `.weight` or `.bias`; `blk.N.` goes before those of a layer.
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

  static let all: [String: GGUFArchitecture] = [
    "llama": llama, "qwen2": qwen2, "qwen3": qwen3, "gemma": gemma, "gemma2": gemma2, "gemma3": gemma3, "phi3": phi3,
    "olmo2": olmo2, "granite": granite, "smollm3": smollm3, "bloom": bloom, "gpt2": gpt2, "bert": bert,
  ]

  // MARK: Names

  /// The model's name of a tensor in the file, and llama.cpp's stem of that; nil for one that the kind does not have.
  func original(of name: String) -> (name: String, stem: String)? {
    let parts = name.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    guard let end = parts.last, GGUFArchitecture.ends.contains(end) else { return nil }
    if parts.count == 2, let stem = outer[parts[0]] { return ("\(stem).\(end)", parts[0]) }
    guard parts.count == 4, parts[0] == "blk", let index = Int(parts[1]), String(index) == parts[1], index >= 0,
      let stem = inner[parts[2]]
    else { return nil }
    return ("\(layers)\(index).\(stem).\(end)", parts[2])
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

  // MARK: Kin of LLaMA

  private static let decoderMembers = [
    "block_count": "num_hidden_layers", "context_length": "max_position_embeddings", "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size", "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads", "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.key_length": "head_dim", "rope.freq_base": "rope_theta",
  ]
  private static let decoderInner = [
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
  ]
  private static let permutation: [String: Change] = [
    "attn_q": .alternating(headsKey: "attention.head_count"),
    "attn_k": .alternating(headsKey: "attention.head_count_kv"),
  ]

  private init(
    modelType: String, className: String, outer: [String: String], layers: String, inner: [String: String],
    changes: [String: Change] = [:], members: [String: String], otherKeys: Set<String>, constants: JSONObject = [:]
  ) {
    (self.modelType, self.className, self.outer, self.layers) = (modelType, className, outer, layers)
    (self.inner, self.changes, self.members) = (inner, changes, members)
    (self.otherKeys, self.constants) = (otherKeys, constants)
  }

  private init(
    decoder modelType: String, _ className: String, inner: [String: String] = [:], changes: [String: Change] = [:],
    members: [String: String] = [:], constants: JSONObject = ["hidden_act": .string("silu")]
  ) {
    self.modelType = modelType
    self.className = className
    outer = ["token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"]
    layers = "model.layers."
    self.inner = Self.decoderInner.merging(inner) { $1 }
    self.changes = changes
    self.members = Self.decoderMembers.merging(members) { $1 }
    otherKeys = [
      "vocab_size", "rope.dimension_count", "attention.value_length", "attention.causal", "expert_count",
      "expert_used_count", "tensor_data_layout", "pooling_type", "rope.scaling.type", "rope.scaling.factor",
      "rope.scaling.original_context_length", "rope.scaling.attn_factor", "rope.scaling.finetuned", "rope.scale_linear",
    ]
    self.constants = constants
  }

  private static let headNorms = ["attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"]

  private static let llama = GGUFArchitecture(decoder: "llama", "LlamaForCausalLM", changes: permutation)
  private static let qwen2 = GGUFArchitecture(decoder: "qwen2", "Qwen2ForCausalLM")
  private static let qwen3 = GGUFArchitecture(decoder: "qwen3", "Qwen3ForCausalLM", inner: headNorms)
  private static let granite = GGUFArchitecture(
    decoder: "granite", "GraniteForCausalLM", changes: permutation,
    members: [
      "attention.scale": "attention_multiplier", "embedding_scale": "embedding_multiplier",
      "residual_scale": "residual_multiplier", "logit_scale": "logits_scaling",
    ])
  // Every fourth layer is without positions, which no key says.
  private static let smollm3 = GGUFArchitecture(
    decoder: "smollm3", "SmolLM3ForCausalLM", changes: permutation,
    constants: ["hidden_act": .string("silu"), "no_rope_layer_interval": .integer(4)])
  private static let olmo2 = {
    let olmo2 = GGUFArchitecture(
      decoder: "olmo2", "Olmo2ForCausalLM",
      inner: headNorms.merging([
        "post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
      ]) { $1 })
    return olmo2.without(["attn_norm", "ffn_norm"])
  }()
  private static let phi3 = {
    var phi3 = GGUFArchitecture(
      decoder: "phi3", "Phi3ForCausalLM", inner: ["attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"],
      members: ["attention.sliding_window": "sliding_window"])
    phi3.otherKeys.insert("attention.sliding_window_pattern")
    return phi3.without(["attn_q", "attn_k", "attn_v", "ffn_gate"])
  }()

  private static let gelu: JSONObject = [
    "hidden_act": .string("gelu_pytorch_tanh"), "hidden_activation": .string("gelu_pytorch_tanh"),
  ]
  private static let gemma = GGUFArchitecture(
    decoder: "gemma", "GemmaForCausalLM",
    changes: ["attn_norm": .plusOne, "ffn_norm": .plusOne, "output_norm": .plusOne], constants: gelu)
  private static let aroundNorms = [
    "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
  ]
  private static let plusOnes: [String: Change] = [
    "attn_norm": .plusOne, "ffn_norm": .plusOne, "output_norm": .plusOne, "post_attention_norm": .plusOne,
    "post_ffw_norm": .plusOne, "attn_q_norm": .plusOne, "attn_k_norm": .plusOne,
  ]
  private static let gemma2 = GGUFArchitecture(
    decoder: "gemma2", "Gemma2ForCausalLM", inner: aroundNorms, changes: plusOnes,
    members: [
      "attn_logit_softcapping": "attn_logit_softcapping", "final_logit_softcapping": "final_logit_softcapping",
      "attention.sliding_window": "sliding_window",
    ], constants: gelu)
  private static let gemma3 = GGUFArchitecture(
    decoder: "gemma3_text", "Gemma3ForCausalLM", inner: aroundNorms.merging(headNorms) { $1 }, changes: plusOnes,
    members: [
      "final_logit_softcapping": "final_logit_softcapping", "attention.sliding_window": "sliding_window",
      "attention.sliding_window_pattern": "sliding_window_pattern", "rope.freq_base_swa": "rope_local_base_freq",
    ], constants: gelu)

  /// The same without some tensors of layers.
  private func without(_ stems: [String]) -> GGUFArchitecture {
    GGUFArchitecture(
      modelType: modelType, className: className, outer: outer, layers: layers,
      inner: inner.filter { !stems.contains($0.key) }, changes: changes, members: members, otherKeys: otherKeys,
      constants: constants)
  }

  // MARK: Others

  private static let bloom = GGUFArchitecture(
    modelType: "bloom", className: "BloomForCausalLM",
    outer: [
      "token_embd": "transformer.word_embeddings", "token_embd_norm": "transformer.word_embeddings_layernorm",
      "output_norm": "transformer.ln_f", "output": "lm_head",
    ], layers: "transformer.h.",
    inner: [
      "attn_norm": "input_layernorm", "attn_qkv": "self_attention.query_key_value",
      "attn_output": "self_attention.dense",
      "ffn_norm": "post_attention_layernorm", "ffn_up": "mlp.dense_h_to_4h", "ffn_down": "mlp.dense_4h_to_h",
    ], changes: ["attn_qkv": .fused],
    members: [
      "block_count": "n_layer", "embedding_length": "hidden_size", "feed_forward_length": "n_inner",
      "attention.head_count": "n_head", "attention.layer_norm_epsilon": "layer_norm_epsilon",
    ], otherKeys: ["context_length", "attention.head_count_kv", "vocab_size", "attention.causal"])

  private static let gpt2 = GGUFArchitecture(
    modelType: "gpt2", className: "GPT2LMHeadModel",
    outer: [
      "token_embd": "transformer.wte", "position_embd": "transformer.wpe", "output_norm": "transformer.ln_f",
      "output": "lm_head",
    ], layers: "transformer.h.",
    inner: [
      "attn_norm": "ln_1", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_norm": "ln_2",
      "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj",
    ],
    changes: [
      "attn_qkv": .transposed, "attn_output": .transposed, "ffn_up": .transposed, "ffn_down": .transposed,
    ],
    members: [
      "block_count": "n_layer", "context_length": "n_positions", "embedding_length": "n_embd",
      "feed_forward_length": "n_inner", "attention.head_count": "n_head",
      "attention.layer_norm_epsilon": "layer_norm_epsilon",
    ], otherKeys: ["attention.head_count_kv", "vocab_size", "attention.causal"],
    constants: ["activation_function": .string("gelu_new")])

  private static let bert = GGUFArchitecture(
    modelType: "bert", className: "BertModel",
    outer: [
      "token_embd": "embeddings.word_embeddings", "position_embd": "embeddings.position_embeddings",
      "token_types": "embeddings.token_type_embeddings", "token_embd_norm": "embeddings.LayerNorm",
    ], layers: "encoder.layer.",
    inner: [
      "attn_q": "attention.self.query", "attn_k": "attention.self.key", "attn_v": "attention.self.value",
      "attn_output": "attention.output.dense", "attn_output_norm": "attention.output.LayerNorm",
      "ffn_up": "intermediate.dense", "ffn_down": "output.dense", "layer_output_norm": "output.LayerNorm",
    ],
    members: [
      "block_count": "num_hidden_layers", "context_length": "max_position_embeddings",
      "embedding_length": "hidden_size", "feed_forward_length": "intermediate_size",
      "attention.head_count": "num_attention_heads", "attention.layer_norm_epsilon": "layer_norm_eps",
    ], otherKeys: ["attention.causal", "attention.head_count_kv", "pooling_type", "vocab_size"],
    constants: ["hidden_act": .string("gelu"), "position_embedding_type": .string("absolute")])
}
