import OTJSON

/// Encoders.
extension GGUFArchitecture {
  static let bert = GGUFArchitecture(
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

  static let nomicBERT = GGUFArchitecture(
    modelType: "nomic_bert", className: "NomicBertModel",
    outer: [
      "token_embd": "embeddings.word_embeddings", "token_types": "embeddings.token_type_embeddings",
      "token_embd_norm": "emb_ln",
    ], layers: "encoder.layers.",
    inner: [
      "attn_qkv": "attn.Wqkv", "attn_output": "attn.out_proj", "attn_output_norm": "norm1", "ffn_up": "mlp.fc11",
      "ffn_gate": "mlp.fc12", "ffn_down": "mlp.fc2", "layer_output_norm": "norm2",
    ],
    members: bert.members.merging(["rope.freq_base": "rope_theta"]) { $1 },
    otherKeys: bert.otherKeys.union(["rope.dimension_count"]),
    constants: ["hidden_act": .string("silu")])

  /// True where tokens see those behind them.
  var isEncoder: Bool { outer["output_norm"] == nil }
}
