import OTJSON

/// Which members of config.json can change what a model computes.
///
/// A family understands the members that it reads. Of the others nothing is known but the name: one that
/// has a mark of `marks` is refused, unless its value says no (null, false, nothing in it) or it is listed
/// as harmless. Names without a mark (of tokens, of training, of files) are ignored. A new option of some
/// model that changes arithmetic under a name without a mark has new tensors or another `architectures`,
/// which are refused as well.
enum ArithmeticMembers {
  /// Parts of names.
  private static let marks = [
    // Factors and limits: logits_scaling, residual_multiplier, attn_logit_softcapping, query_pre_attn_scalar.
    "multiplier", "scal", "softcap", "soft_cap", "clip",
    // Positions: rope_parameters, no_rope_layers, partial_rotary_factor, position_embedding_type.
    "rope", "rotary", "nope", "alibi", "position", "relative",
    // What attention sees: sliding_window, layer_types, sliding_window_pattern, is_causal.
    "window", "layer_types", "pattern", "causal", "bidirectional", "attention", "attn", "chunk", "sink",
    "cross_att", "encoder_decoder", "block_type",
    // Shapes of attention: head_dim, num_key_value_heads, kv_lora_rank, multi_query.
    "head_dim", "head_size", "kv_", "key_value", "multi_query", "lora_rank", "shared",
    // What is added or left out: biases, norms, parallel blocks, pruned heads.
    "bias", "norm", "residual", "parallel", "pruned", "skip",
    // Other functions and other layers.
    "activation", "hidden_act", "act_fn", "feed_forward", "mlp_type", "expert", "moe", "router", "mamba", "ssm",
    "d_conv", "conv_kernel", "conv_dim", "conv_l_", "recurren", "linear_attn", "per_layer", "embedding_size", "task_id",
    "altup", "laurel",
    // Models of several parts.
    "text_config", "vision", "audio",
  ]

  /// Parts of names that say how a model was trained or is executed.
  private static let harmlessMarks = [
    "dropout", "pdrop", "flash", "implementation", "output_", "initializer", "_loss", "loss_", "aux_", "fusion",
    "cache", "memory_efficient", "sdpa",
  ]

  /// Names that have a mark and change nothing.
  private static let harmless: Set<String> = [
    // Sizes that only bound the length, whether or not the family has a use for them.
    "max_position_embeddings", "n_positions", "max_window_layers", "original_max_position_embeddings",
    // How the original's code executes the same function.
    "attention_softmax_in_fp32", "chunk_size_feed_forward", "offset_alibi", "reorder_and_upcast_attn",
    "scale_attn_weights", "skip_bias_add", "skip_bias_add_qkv", "tensor_parallel_degree", "sequence_parallel",
    // Heads that are not part of the graph: their tensors are named where they are there.
    "pooler_num_attention_heads", "sbert_ce_default_activation_function", "summary_activation", "classifier_activation",
    // Multimodal rotation is plain rotation where all tokens are text.
    "use_mrope",
  ]

  /// True when the member called `name` can make another model of a graph that knows nothing of it.
  static func canChange(_ name: String, _ value: JSONValue) -> Bool {
    let name = name.lowercased()
    // The one member whose no is what changes the model.
    if name == "is_causal" || name == "use_causal_mask" || name == "scale_attn_weights" { return value == .bool(false) }
    guard !saysNo(value), !harmless.contains(name) else { return false }
    return marks.contains(where: name.contains) && !harmlessMarks.contains(where: name.contains)
  }

  private static func saysNo(_ value: JSONValue) -> Bool {
    switch value {
    case .null, .bool(false), .string(""), .string("none"): true
    case .array(let items): items.isEmpty
    case .object(let object): object.count == 0
    default: false
    }
  }
}
