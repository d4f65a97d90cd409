import OTJSON

/// Decoders with LayerNorm, plain MLPs or fused projections.
extension GGUFArchitecture {
  private static let silu: JSONObject = ["hidden_act": .string("silu")]
  private static let geluTanh: JSONObject = ["hidden_act": .string("gelu_pytorch_tanh")]
  private static let part = "partial_rotary_factor"
  private static let parts = [".q_proj", ".k_proj", ".v_proj"].map { "self_attn" + $0 }

  static let phi2 = GGUFArchitecture(
    modelType: "phi", className: "PhiForCausalLM",
    outer: ["token_embd": "model.embed_tokens", "output_norm": "model.final_layernorm", "output": "lm_head"],
    layers: "model.layers.",
    inner: [
      "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
      "attn_v": "self_attn.v_proj", "attn_qkv": "self_attn.qkv", "attn_output": "self_attn.dense", "ffn_up": "mlp.fc1",
      "ffn_down": "mlp.fc2",
    ], changes: ["attn_qkv": .split(parts)],
    members: decoderMembers.merging(["attention.layer_norm_epsilon": "layer_norm_eps"]) { $1 },
    otherKeys: ["vocab_size", "rope.dimension_count", "attention.value_length", "attention.causal"],
    constants: ["hidden_act": .string("gelu_new")], partMember: part)
  static let stablelm = GGUFArchitecture(
    decoder: "stablelm", "StableLmForCausalLM",
    inner: [
      "attn_q_norm": "self_attn.q_layernorm.norms.{}", "attn_k_norm": "self_attn.k_layernorm.norms.{}",
    ], changes: ["attn_q_norm": .elements, "attn_k_norm": .elements], epsilon: "layer_norm_eps",
    otherKeys: ["use_parallel_residual"], partMember: part,
    finish: { model, members in
      members["use_qkv_bias"] = .bool(model.has("self_attn.q_proj.bias"))
      members["qk_layernorm"] = .bool(model.has("q_layernorm.norms.0.weight"))
      // As llama.cpp does: the tensors say it.
      members["use_parallel_residual"] = .bool(!model.has("post_attention_layernorm.weight"))
    })
  private static let headNorms = ["attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"]
  static let commandR = GGUFArchitecture(
    decoder: "cohere", "CohereForCausalLM", inner: headNorms, without: ["ffn_norm"],
    members: ["logit_scale": "logit_scale"], epsilon: "layer_norm_eps",
    finish: { $1["use_qk_norm"] = .bool($0.has("self_attn.q_norm.weight")) })
  static let cohere2 = GGUFArchitecture(
    decoder: "cohere2", "Cohere2ForCausalLM", without: ["ffn_norm"],
    members: [
      "logit_scale": "logit_scale", "attention.sliding_window": "sliding_window",
      "attention.sliding_window_pattern": "sliding_window_pattern",
    ], epsilon: "layer_norm_eps")
  static let olmo = GGUFArchitecture(
    decoder: "olmo", "OlmoForCausalLM", without: ["attn_norm", "ffn_norm"],
    changes: [
      "attn_q": .alternating(headsKey: "attention.head_count"),
      "attn_k": .alternating(headsKey: "attention.head_count_kv"),
    ], members: ["attention.clamp_kqv": "clip_qkv"], epsilon: "layer_norm_eps",
    finish: { model, members in
      // The model's own is 1e-5.
      let epsilon = members["layer_norm_eps"]?.double ?? 1e-5
      members["layer_norm_eps"] = nil
      guard abs(epsilon - 1e-5) > 1e-9 else { return }
      throw model.refusal(ofKey: "attention.layer_norm_epsilon", "is \(epsilon), not 1e-5")
    })
  static let nemotron = GGUFArchitecture(
    decoder: "nemotron", "NemotronForCausalLM", without: ["ffn_gate"],
    changes: ["attn_norm": .plusOne, "ffn_norm": .plusOne, "output_norm": .plusOne], epsilon: "norm_eps",
    constants: ["hidden_act": .string("relu2")], partMember: part, finish: { $0.setBiases(&$1) })
  static let glm4 = GGUFArchitecture(
    decoder: "glm4", "Glm4ForCausalLM",
    inner: [
      "post_attention_norm": "post_self_attn_layernorm", "post_ffw_norm": "post_mlp_layernorm",
      "ffn_up": "mlp.gate_up_proj",
    ], without: ["ffn_gate"], partMember: part, finish: { $0.setBiases(&$1) })
  static let chatglm = GGUFArchitecture(
    decoder: "glm", "GlmForCausalLM", inner: ["ffn_up": "mlp.gate_up_proj", "attn_qkv": "self_attn.qkv"],
    without: ["ffn_gate"], changes: ["attn_qkv": .split(parts)], partMember: part,
    finish: { model, members in
      model.setBiases(&members)
      guard members["head_dim"] == nil, let hidden = try model.size("embedding_length"),
        let heads = try model.size("attention.head_count")
      else { return }
      members["head_dim"] = .integer(hidden / heads)
    })
  static let exaone4 = GGUFArchitecture(
    decoder: "exaone4", "Exaone4ForCausalLM",
    inner: headNorms.merging([
      "post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
    ]) { $1 }, without: ["attn_norm", "ffn_norm"],
    members: [
      "attention.sliding_window": "sliding_window", "attention.sliding_window_pattern": "sliding_window_pattern",
    ],
    finish: { model, members in
      guard members["sliding_window"] == nil, let count = model.key("block_count")?.integer, count <= 1 << 16 else {
        return
      }
      members["sliding_window"] = .null
      members["layer_types"] = .array([JSONValue](repeating: .string("full_attention"), count: max(count, 0)))
    })
  static let starcoder2 = GGUFArchitecture(
    decoder: "starcoder2", "Starcoder2ForCausalLM", inner: ["ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"],
    without: ["ffn_gate"], members: ["attention.sliding_window": "sliding_window"], epsilon: "norm_epsilon",
    constants: geluTanh, finish: { $1["use_bias"] = .bool($0.has("self_attn.q_proj.bias")) })

  // MARK: With names of their own

  static let gptneox = GGUFArchitecture(
    modelType: "gpt_neox", className: "GPTNeoXForCausalLM",
    outer: ["token_embd": "gpt_neox.embed_in", "output_norm": "gpt_neox.final_layer_norm", "output": "embed_out"],
    layers: "gpt_neox.layers.",
    inner: [
      "attn_norm": "input_layernorm", "attn_qkv": "attention.query_key_value", "attn_output": "attention.dense",
      "ffn_norm": "post_attention_layernorm", "ffn_up": "mlp.dense_h_to_4h", "ffn_down": "mlp.dense_4h_to_h",
    ], changes: ["attn_qkv": .fused],
    members: [
      "block_count": "num_hidden_layers", "context_length": "max_position_embeddings",
      "embedding_length": "hidden_size", "feed_forward_length": "intermediate_size",
      "attention.head_count": "num_attention_heads", "attention.layer_norm_epsilon": "layer_norm_eps",
      "use_parallel_residual": "use_parallel_residual", "rope.freq_base": "rope_theta",
    ], otherKeys: ["vocab_size", "rope.dimension_count", "attention.causal", "attention.head_count_kv"],
    constants: ["hidden_act": .string("gelu")], partMember: part)
  static let falcon = GGUFArchitecture(
    modelType: "falcon", className: "FalconForCausalLM",
    outer: [
      "token_embd": "transformer.word_embeddings", "output_norm": "transformer.ln_f", "output": "lm_head",
    ], layers: "transformer.h.",
    inner: [
      "attn_norm": "input_layernorm", "attn_qkv": "self_attention.query_key_value",
      "attn_output": "self_attention.dense", "ffn_up": "mlp.dense_h_to_4h", "ffn_down": "mlp.dense_4h_to_h",
    ], changes: ["attn_qkv": .grouped],
    members: [
      "block_count": "num_hidden_layers", "context_length": "max_position_embeddings",
      "embedding_length": "hidden_size", "feed_forward_length": "ffn_hidden_size",
      "attention.head_count": "num_attention_heads", "attention.head_count_kv": "num_kv_heads",
      "attention.layer_norm_epsilon": "layer_norm_epsilon", "rope.freq_base": "rope_theta",
    ], otherKeys: ["vocab_size", "rope.dimension_count", "attention.causal", "tensor_data_layout"],
    constants: ["activation": .string("gelu"), "alibi": .bool(false), "parallel_attn": .bool(true)],
    finish: { $0.setFalcon(&$1) })
  static let falconOfTwoNorms = GGUFArchitecture(
    modelType: falcon.modelType, className: falcon.className, outer: falcon.outer, layers: falcon.layers,
    inner: falcon.inner.merging(["attn_norm": "ln_mlp", "attn_norm_2": "ln_attn"]) { $1 }, changes: falcon.changes,
    members: falcon.members, otherKeys: falcon.otherKeys, constants: falcon.constants, finish: falcon.finish)
  static let starcoder = GGUFArchitecture(
    modelType: "gpt_bigcode", className: "GPTBigCodeForCausalLM",
    outer: [
      "token_embd": "transformer.wte", "position_embd": "transformer.wpe", "output_norm": "transformer.ln_f",
      "output": "lm_head",
    ], layers: "transformer.h.", inner: gpt2.inner,
    members: gpt2.members, otherKeys: gpt2.otherKeys,
    constants: ["activation_function": .string("gelu_pytorch_tanh")],
    finish: { $1["multi_query"] = .bool($0.key("attention.head_count_kv")?.integer == 1) })
  static let mpt = GGUFArchitecture(
    modelType: "mpt", className: "MptForCausalLM",
    outer: ["token_embd": "transformer.wte", "output_norm": "transformer.norm_f", "output": "lm_head"],
    layers: "transformer.blocks.",
    inner: [
      "attn_norm": "norm_1", "attn_qkv": "attn.Wqkv", "attn_output": "attn.out_proj", "ffn_norm": "norm_2",
      "ffn_up": "ffn.up_proj", "ffn_down": "ffn.down_proj",
    ],
    members: [
      "block_count": "n_layers", "context_length": "max_seq_len", "embedding_length": "d_model",
      "attention.head_count": "n_heads", "attention.layer_norm_epsilon": "layer_norm_epsilon",
    ],
    otherKeys: [
      "vocab_size", "attention.causal", "attention.head_count_kv", "feed_forward_length", "attention.max_alibi_bias",
      "attention.clamp_kqv",
    ], constants: ["no_bias": .bool(true)], finish: { try $0.setMPT(&$1) })

  static let bloom = GGUFArchitecture(
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

  static let gpt2 = GGUFArchitecture(
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
}
