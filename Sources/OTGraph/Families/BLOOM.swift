/// BLOOM and BLOOMZ (arXiv:2211.05100): queries, keys and values come from one
/// linear, interleaved head by head; positions are ALiBi biases.
///
/// Without config.json the head count is unknown: the slices of the fused
/// value then have head size 0, and migration puts what it would push through
/// them on the edge instead.
package enum BLOOMFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "bloom", modelTypes: ["bloom"], architectures: ["Bloom"], prefixes: ["transformer.", ""],
    anchor: "word_embeddings.weight",
    signature: ["word_embeddings_layernorm.weight", "h.0.self_attention.query_key_value.weight"],
    layers: "h.", body: ["word_embeddings", "ln_f"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let (configuration, tensors, prefix) = (builder.configuration, builder.tensors, builder.prefix)
    let table = prefix + "word_embeddings.weight"
    let found = try tensors.matrix(table)
    let vocabulary = try configuration.size("vocab_size") ?? found.rows
    let hidden = try configuration.size("hidden_size", "n_embed") ?? found.columns
    let inner = try configuration.size("n_inner") ?? 4 * hidden
    let epsilon = try configuration.epsilon("layer_norm_epsilon") ?? 1e-5
    let residualIsNormed =
      try configuration.flag("apply_residual_connection_post_layernorm") ?? false
    let heads = try configuration.size("n_head", "num_attention_heads")
    let headSize = try heads.map { try configuration.quotient(hidden, $0, "heads") } ?? 0
    let attention = Attention(
      headCount: heads ?? 0, keyValueHeadCount: heads ?? 0, headSize: headSize, isCausal: true,
      positions: .alibi)
    let mlp = GraphBuilder.MLP(hidden: hidden, inner: inner, kind: .geluTanh, bias: .required)

    func norm(_ name: String, _ input: String) -> String {
      builder.layerNorm(name, input, size: hidden, epsilon: epsilon)
    }
    let tokens = builder.add("token_ids", .tokenIDs)
    var value = builder.embedding(
      prefix + "word_embeddings", tokens, rowCount: vocabulary, size: hidden)
    value = norm(prefix + "word_embeddings_layernorm", value)

    let configured = try configuration.size("n_layer", "num_hidden_layers")
    for index in try builder.countLayers(prefix + "h.", configured: configured) {
      let layer = prefix + "h.\(index)."
      let block = layer + "self_attention"
      var normed = norm(layer + "input_layernorm", value)
      var residual = residualIsNormed ? normed : value
      let fused = builder.linear(
        block + ".query_key_value", normed, hidden, 3 * hidden, bias: .required)
      let parts = ["query", "key", "value"].enumerated().map { part, name in
        builder.add(
          "\(block).\(name)",
          .channelSlice(ChannelSlice(part: part, partCount: 3, blockSize: headSize)), fused)
      }
      let mixed = builder.add(block, .attention(attention), parts[0], parts[1], parts[2])
      let attended = builder.linear(block + ".dense", mixed, hidden, hidden, bias: .required)
      value = builder.add(layer + "attention_sum", .add, residual, attended)

      normed = norm(layer + "post_attention_layernorm", value)
      residual = residualIsNormed ? normed : value
      let second = builder.mlp(
        normed, mlp, first: layer + "mlp.dense_h_to_4h", activation: layer + "mlp.gelu_impl",
        second: layer + "mlp.dense_4h_to_h")
      value = builder.add(layer + "mlp_sum", .add, residual, second)
    }
    value = norm(prefix + "ln_f", value)
    let isTied =
      try configuration.flag("tie_word_embeddings") ?? (configuration.isPresent || tensors["lm_head.weight"] == nil)
    try builder.decoderHead("lm_head", value, hidden, vocabulary: vocabulary, table: table, isTied: isTied)
    builder.vocabularySize = vocabulary
    if heads == nil { builder.missing.append("n_head") }
    if !configuration.isPresent { builder.missing.append("layer_norm_epsilon") }
  }
}
