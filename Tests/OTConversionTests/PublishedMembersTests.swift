import OTCheckpoint
import OTFoundation
import OTGraph
import OTJSON
import Testing
import _OTTestSupport

/// Configurations in the words of their publishers, with members that no version of transformers reads, give the same
/// graph as what transformers writes today; what they say otherwise is refused.
@Suite struct PublishedMembersTests {
  private static let rope = #""rope_parameters": null"#

  private func model(_ name: String, _ changes: String) throws -> FamilyModel {
    let path = Fixtures.path("models/families/\(name)")
    let checkpoint = try Checkpoint.open(path)
    var configuration = try #require(try checkpoint.attachments.json(.configuration)?.object)
    let changed = try JSONValue.parse("{\(changes)}")
    for member in changed.object?.members ?? [] { configuration[member.key] = member.value }
    return try Families.model(
      configuration: .object(configuration), tensors: TensorCatalog(checkpoint.tensors, file: path))
  }

  @Test(arguments: [
    ("neox", #"\#(rope), "rotary_pct": 0.25, "rotary_emb_base": 10000, "attention_probs_dropout_prob": 0"#),
    ("neox", #"\#(rope), "rotary_pct": 0.25, "partial_rotary_factor": 0.25, "rope_theta": 10000.0"#),
    ("neox", #"\#(rope), "rope_scaling": null"#),
    (
      "falcon",
      #"""
      \#(rope), "rope_theta": 10000.0, "apply_residual_connection_post_layernorm": false, "n_head_kv": null,
      "auto_map": {"AutoModelForCausalLM": "tiiuae/falcon-7b--modeling_falcon.FalconForCausalLM"}
      """#
    ),
    ("falcon-alibi", #""rope_theta": 10000.0, "hidden_dropout": 0.0"#),
    (
      "gptj",
      #""rotary": true, "scale_attn_weights": true, "summary_activation": null, "gradient_checkpointing": false"#
    ),
    ("phi", #"\#(rope), "partial_rotary_factor": 0.5, "rope_theta": 10000.0, "embd_pdrop": 0.0"#),
    (
      "starcoder2",
      #"""
      "norm_type": "layer_norm", "mlp_type": "default", "scale_attention_softmax_in_fp32": true,
      "attention_softmax_in_fp32": true, "scale_attn_weights": true, "activation_function": "gelu_pytorch_tanh",
      "layer_norm_epsilon": 1e-05
      """#
    ),
    (
      "bigcode",
      #"""
      "inference_runner": 0, "validate_runner_input": true, "pre_allocate_kv_cache": false, "pad_key_length": true,
      "summary_type": "cls_index", "num_key_value_heads": 1
      """#
    ),
    ("stablelm", #"\#(rope), "rope_pct": 0.25, "norm_eps": 1e-05, "rotary_scaling_factor": 1.0"#),
    ("cohere2", #""_sliding_window_pattern": 4, "layer_types": null, "sliding_window_pattern": 4"#),
    (
      "cohere2",
      #"""
      "rotary_pct": 1.0, "position_embedding_type": "rope_gptj", "use_parallel_block": true, "layer_switch": 4,
      "use_gated_activation": true, "use_parallel_embedding": false, "use_embedding_sharing": true
      """#
    ),
    ("nemotron", #"\#(rope), "partial_rotary_factor": 0.5, "rope_percent": 0.5"#),
    ("glm", #"\#(rope), "partial_rotary_factor": 0.5, "rope_theta": 10000.0"#),
    ("exaone4", #""layer_types": null, "sliding_window_pattern": 2"#), ("exaone4", #""sliding_window_pattern": "LG""#),
    (
      "granite4",
      #"""
      "normalization_function": "rmsnorm", "init_method": "mup", "layer_types": ["attention", "attention", "attention"],
      "num_experts_per_tok": 0
      """#
    ),
    (
      "deepseek3",
      #"""
      "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config",
       "AutoModel": "modeling_deepseek.DeepseekV3Model", "AutoModelForCausalLM": "modeling_deepseek.DeepseekV3ForCausalLM"},
      "ep_size": 1, "moe_layer_freq": 1, "scoring_func": "sigmoid", "topk_method": "noaux_tc", "head_dim": null,
      "num_nextn_predict_layers": 1, "rope_interleave": null, "rope_parameters": null, "rope_theta": 10000,
      "rope_scaling": {"beta_fast": 8, "beta_slow": 1, "factor": 4, "mscale": 1.0, "mscale_all_dim": 1.0,
       "original_max_position_embeddings": 16, "type": "yarn"}
      """#
    ),
    (
      "deepseek2",
      #"""
      "aux_loss_alpha": 0.001, "seq_aux": true, "ep_size": 1, "moe_layer_freq": 1, "scoring_func": "softmax",
      "n_group": 1, "topk_group": 1, "norm_topk_prob": false, "head_dim": null,
      "auto_map": {"AutoModelForCausalLM": "modeling_deepseek.DeepseekV2ForCausalLM"}
      """#
    ),
    (
      "mpt",
      #"""
      "norm_type": "low_precision_layernorm", "no_bias": true, "learned_pos_emb": true, "expansion_ratio": 4,
      "attn_config": {"alibi": true, "alibi_bias_max": 8, "attn_impl": "torch", "attn_pdrop": 0, "clip_qkv": null,
       "attn_type": "multihead_attention", "attn_uses_sequence_id": false, "prefix_lm": false, "qk_ln": false,
       "softmax_scale": null},
      "auto_map": {"AutoModelForCausalLM": "modeling_mpt.MPTForCausalLM"}, "architectures": ["MPTForCausalLM"]
      """#
    ),
  ])
  func olderWordsAreTheSameGraph(_ name: String, _ changes: String) throws {
    let graph = try model(name, "").graph
    #expect(try model(name, changes).graph.differences(from: graph).isEmpty)
  }

  @Test(arguments: [
    ("neox", #""rotary_pct": 0.5"#), ("neox", #"\#(rope), "rotary_pct": 0.25, "partial_rotary_factor": 0.5"#),
    ("neox", #""rotary_emb_base": 500, "rope_theta": 10000"#),
    ("falcon", #""alibi": null, "rope_scaling": {"type": "dynamic"}"#),
    ("falcon", #""new_decoder_architecture": true, "parallel_attn": false"#),
    ("falcon", #""apply_residual_connection_post_layernorm": true"#), ("falcon", #""num_ln_in_parallel_attn": 2"#),
    ("falcon-new", #""num_kv_heads": 3"#), ("gptj", #""rotary": false"#), ("gptj", #""rotary_dim": null"#),
    ("gptj", #""rotary_dim": 18"#), ("phi", #""qk_layernorm": 3"#), ("starcoder2", #""norm_type": "rms_norm""#),
    ("starcoder2", #""mlp_type": "gated""#), ("starcoder2", #""activation_function": "relu""#),
    ("starcoder2", #""layer_norm_epsilon": 1e-06"#), ("bigcode", #""num_key_value_heads": 4"#),
    ("stablelm", #""norm_eps": 1e-06"#),
    ("stablelm", #""rotary_scaling_factor": 2.0"#), ("cohere2", #""rotary_pct": 0.5"#),
    ("cohere2", #""position_embedding_type": "rope""#), ("cohere2", #""use_parallel_block": false"#),
    ("cohere2", #""sliding_window": null"#), ("nemotron", #""hidden_act": "quick_gelu""#),
    ("exaone4", #""layer_types": null, "sliding_window_pattern": "LLLG""#),
    ("ministral3", #""rope_parameters": null"#),
    ("ministral3", #""rope_parameters": {"rope_type": "default", "rope_theta": 100.0}"#),
    ("granite4", #""num_local_experts": 8"#), ("granite4", #""num_local_experts": null"#),
    ("granite4", #""layer_types": ["mamba", "attention", "mamba"]"#), ("granite4", #""layer_types": null"#),
    ("granite4", #""position_embedding_type": "alibi""#), ("mpt", #""no_bias": false"#),
    ("mpt", #""norm_type": "rmsnorm""#), ("mpt", #""expansion_ratio": 2"#),
    ("mpt", #""attn_config": {"alibi": false}"#),
    ("mpt", #""attn_config": {"alibi_bias_max": 4}"#), ("mpt", #""attn_config": {"qk_ln": true}"#),
    ("mpt", #""attn_config": {"attn_type": "multiquery_attention"}"#),
    ("deepseek2", #""norm_topk_prob": true"#), ("deepseek2", #""topk_method": "noaux_tc""#),
    ("deepseek2", #""scoring_func": "sigmoid""#), ("deepseek2", #""moe_layer_freq": 2"#),
    ("deepseek2-groups", #""topk_group": 5"#), ("deepseek2-groups", #""n_group": null"#),
    ("deepseek3", #""num_key_value_heads": 2"#), ("deepseek3", #""scoring_func": "softmax""#),
    ("deepseek3", #""topk_method": "greedy""#), ("deepseek3", #""v_head_dim": 2147483648"#),
    ("deepseek3", #""moe_intermediate_size": 2147483648"#),
    ("mpt", #""attn_config": {"rope": true}"#), ("mpt", #""logit_scale": 0.5"#), ("mpt", #""attn_config": 3"#),
  ])
  func whatIsNotSupportedIsRefused(_ name: String, _ changes: String) throws {
    let refusal = try #require(#expect(throws: Refusal.self, "\(name): \(changes)") { try model(name, changes) })
    #expect(["family-configuration", "family-member"].contains(refusal.rule), "\(refusal)")
    #expect(refusal.remedy?.contains("--weights-only") == true)
  }

  /// What is not read is refused by its name.
  @Test(arguments: ["deepseek_v32", "minimax_m2", "perceiver"])
  func unknownTypesAreNamed(_ type: String) throws {
    let refusal = try #require(
      #expect(throws: Refusal.self) { try model("neox", #""model_type": "\#(type)", "architectures": null"#) })
    #expect(refusal.rule == "family-unknown" && refusal.message.contains("'\(type)'"), "\(refusal)")
    #expect(refusal.remedy?.contains("--weights-only") == true)
  }

  /// What the tensors of these models do not tell: they are refused without a configuration, and the way out is named.
  @Test(arguments: ["neox", "falcon", "gptj", "phi", "starcoder2", "stablelm", "nemotron", "glm", "granite4", "mpt"])
  func withoutConfigurationTheyAreRefused(_ name: String) throws {
    let tensors = TensorCatalog(try Checkpoint.open(Fixtures.path("models/families/\(name)")).tensors)
    let refusal = try #require(
      #expect(throws: Refusal.self) { try Families.model(configuration: nil, tensors: tensors) })
    #expect(refusal.rule == "family-configuration" && refusal.message.contains("do not tell"), "\(refusal)")
    #expect(refusal.remedy?.contains("config.json") == true)
  }
}
