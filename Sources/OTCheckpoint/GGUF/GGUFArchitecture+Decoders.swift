import OTJSON

/// Decoders with LLaMA's names.
extension GGUFArchitecture {
  private static let permutation: [String: Change] = [
    "attn_q": .alternating(headsKey: "attention.head_count"),
    "attn_k": .alternating(headsKey: "attention.head_count_kv"),
  ]
  private static let headNorms = ["attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"]

  static let llama = GGUFArchitecture(
    decoder: "llama", "LlamaForCausalLM", changes: permutation, finish: { $0.setBiases(&$1) })
  static let qwen2 = GGUFArchitecture(decoder: "qwen2", "Qwen2ForCausalLM")
  static let qwen3 = GGUFArchitecture(decoder: "qwen3", "Qwen3ForCausalLM", inner: headNorms)
  static let granite = GGUFArchitecture(
    decoder: "granite", "GraniteForCausalLM", changes: permutation,
    members: [
      "attention.scale": "attention_multiplier", "embedding_scale": "embedding_multiplier",
      "residual_scale": "residual_multiplier", "logit_scale": "logits_scaling",
    ], finish: { $0.setBiases(&$1) })
  // Every fourth layer is without positions, which no key says.
  static let smollm3 = GGUFArchitecture(
    decoder: "smollm3", "SmolLM3ForCausalLM", changes: permutation,
    constants: ["hidden_act": .string("silu"), "no_rope_layer_interval": .integer(4)],
    finish: { $0.setBiases(&$1) })
  private static let afterNorms = [
    "post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
  ]
  static let olmo2 = GGUFArchitecture(
    decoder: "olmo2", "Olmo2ForCausalLM", inner: headNorms.merging(afterNorms) { $1 },
    without: ["attn_norm", "ffn_norm"])
  static let phi3 = GGUFArchitecture(
    decoder: "phi3", "Phi3ForCausalLM", inner: ["attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"],
    without: ["attn_q", "attn_k", "attn_v", "ffn_gate"], members: ["attention.sliding_window": "sliding_window"],
    otherKeys: ["attention.sliding_window_pattern"], partMember: "partial_rotary_factor")

  // MARK: Gemma

  private static let gelu: JSONObject = [
    "hidden_act": .string("gelu_pytorch_tanh"), "hidden_activation": .string("gelu_pytorch_tanh"),
  ]
  static let gemma = GGUFArchitecture(
    decoder: "gemma", "GemmaForCausalLM",
    changes: ["attn_norm": .plusOne, "ffn_norm": .plusOne, "output_norm": .plusOne], constants: gelu)
  private static let aroundNorms = afterNorms.merging(["ffn_norm": "pre_feedforward_layernorm"]) { $1 }
  private static let plusOnes: [String: Change] = [
    "attn_norm": .plusOne, "ffn_norm": .plusOne, "output_norm": .plusOne, "post_attention_norm": .plusOne,
    "post_ffw_norm": .plusOne, "attn_q_norm": .plusOne, "attn_k_norm": .plusOne,
  ]
  static let gemma2 = GGUFArchitecture(
    decoder: "gemma2", "Gemma2ForCausalLM", inner: aroundNorms, changes: plusOnes,
    members: [
      "attn_logit_softcapping": "attn_logit_softcapping", "final_logit_softcapping": "final_logit_softcapping",
      "attention.sliding_window": "sliding_window",
    ], constants: gelu, layersOfLargest: 46)
  static let gemma3 = GGUFArchitecture(
    decoder: "gemma3_text", "Gemma3ForCausalLM", inner: aroundNorms.merging(headNorms) { $1 }, changes: plusOnes,
    members: [
      "final_logit_softcapping": "final_logit_softcapping", "attention.sliding_window": "sliding_window",
      "attention.sliding_window_pattern": "sliding_window_pattern", "rope.freq_base_swa": "rope_local_base_freq",
    ], constants: gelu, layersOfLargest: 62)

  // MARK: Experts

  private static func experts(_ module: String, _ names: (gate: String, up: String, down: String)) -> [String: String] {
    [
      "ffn_gate_inp": "\(module).gate", "ffn_gate_exps": "\(module).experts.{}.\(names.gate)",
      "ffn_up_exps": "\(module).experts.{}.\(names.up)", "ffn_down_exps": "\(module).experts.{}.\(names.down)",
    ]
  }
  private static let stacks: [String: Change] = [
    "ffn_gate_exps": .elements, "ffn_up_exps": .elements, "ffn_down_exps": .elements,
  ]
  private static let expertNames = (gate: "gate_proj", up: "up_proj", down: "down_proj")
  private static let expertMembers = [
    "expert_count": "num_experts", "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
  ]

  static let mixtral = GGUFArchitecture(
    decoder: "mixtral", "MixtralForCausalLM", inner: experts("block_sparse_moe", ("w1", "w3", "w2")),
    without: ["ffn_gate", "ffn_up", "ffn_down"], changes: permutation.merging(stacks) { $1 },
    members: ["expert_count": "num_local_experts", "expert_used_count": "num_experts_per_tok"], hasExperts: true)
  static let qwen2moe = GGUFArchitecture(
    decoder: "qwen2_moe", "Qwen2MoeForCausalLM",
    inner: experts("mlp", expertNames).merging([
      "ffn_gate_inp_shexp": "mlp.shared_expert_gate", "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
      "ffn_up_shexp": "mlp.shared_expert.up_proj", "ffn_down_shexp": "mlp.shared_expert.down_proj",
    ]) { $1 }, without: ["ffn_gate", "ffn_up", "ffn_down"],
    changes: stacks.merging(["ffn_gate_inp_shexp": .row]) { $1 },
    members: expertMembers.merging([
      "expert_shared_feed_forward_length": "shared_expert_intermediate_size"
    ]) { $1 }, constants: ["hidden_act": .string("silu"), "norm_topk_prob": .bool(false)], hasExperts: true)
  static let qwen3moe = GGUFArchitecture(
    decoder: "qwen3_moe", "Qwen3MoeForCausalLM", inner: experts("mlp", expertNames).merging(headNorms) { $1 },
    without: ["ffn_gate", "ffn_up", "ffn_down"], changes: stacks, members: expertMembers,
    constants: ["hidden_act": .string("silu"), "norm_topk_prob": .bool(true)], hasExperts: true)

  /// Gate, up and down are joined as the model has them: `joinClampedExperts`.
  static let gptOSS = GGUFArchitecture(
    decoder: "gpt_oss", "GptOssForCausalLM",
    inner: [
      "attn_sinks": "self_attn.sinks=", "post_attention_norm": "post_attention_layernorm",
      "ffn_gate_inp": "mlp.router", "ffn_gate_exps": "mlp.experts.gate", "ffn_up_exps": "mlp.experts.up",
      "ffn_down_exps": "mlp.experts.down",
    ], without: ["ffn_norm", "ffn_gate", "ffn_up", "ffn_down"],
    members: [
      "attention.sliding_window": "sliding_window", "expert_count": "num_local_experts",
      "expert_used_count": "num_experts_per_tok", "expert_feed_forward_length": "intermediate_size",
    ], hasExperts: true,
    finish: { model, members in
      members["attention_bias"] = .bool(model.has("self_attn.q_proj.bias"))
      members["rope_scaling"] = .object(["rope_type": .string("default")])
    })
  /// Ministral 3, or without the growth of queries Mistral Small 3.
  static let mistral3 = GGUFArchitecture(
    decoder: "ministral3", "Ministral3ForCausalLM", changes: permutation,
    otherKeys: ["attention.temperature_scale", "rope.scaling.yarn_log_multiplier"],
    finish: { model, members in
      guard model.key("attention.temperature_scale") == nil else { return }
      members["model_type"] = .string("mistral")
      members["architectures"] = .array([.string("MistralForCausalLM")])
    })

  // MARK: DeepSeek

  static let deepseek2 = GGUFArchitecture(
    decoder: "deepseek_v3", "DeepseekV3ForCausalLM",
    inner: experts("mlp", expertNames).merging([
      "exp_probs_b": "mlp.gate.e_score_correction_bias=", "attn_q_a": "self_attn.q_a_proj",
      "attn_q_a_norm": "self_attn.q_a_layernorm", "attn_q_b": "self_attn.q_b_proj",
      "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa", "attn_kv_a_norm": "self_attn.kv_a_layernorm",
      "attn_kv_b": "self_attn.kv_b_proj", "attn_k_b": "self_attn.k_b", "attn_v_b": "self_attn.v_b",
      "ffn_gate_shexp": "mlp.shared_experts.gate_proj", "ffn_up_shexp": "mlp.shared_experts.up_proj",
      "ffn_down_shexp": "mlp.shared_experts.down_proj",
    ]) { $1 }, without: ["attn_k", "attn_v"], changes: stacks,
    members: [
      "expert_count": "n_routed_experts", "expert_used_count": "num_experts_per_tok",
      "expert_feed_forward_length": "moe_intermediate_size", "expert_shared_count": "n_shared_experts",
      "leading_dense_block_count": "first_k_dense_replace", "attention.kv_lora_rank": "kv_lora_rank",
      "expert_weights_scale": "routed_scaling_factor", "expert_weights_norm": "norm_topk_prob",
      "expert_group_count": "n_group", "expert_group_used_count": "topk_group",
    ],
    otherKeys: [
      "attention.q_lora_rank", "attention.key_length_mla", "attention.value_length_mla", "expert_gating_func",
      "rope.scaling.yarn_log_multiplier",
    ], hasExperts: true, finish: { try $0.setLatentAttention(&$1) })
}
