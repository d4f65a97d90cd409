/// GPT-2 (Radford et al., 2019) and what has its graph: DistilGPT2, DialoGPT.
///
/// Norms stand before attention and MLP, positions are learned, the head is tied. The checkpoint keeps the
/// weights of its linears as `[in, out]`. Queries, keys and values come from one linear, a third each.
package enum GPT2Family: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "gpt2", modelTypes: ["gpt2"], architectures: ["GPT2"], prefixes: ["transformer.", ""],
    anchor: "wte.weight", signature: ["wpe.weight", "h.0.attn.c_attn.weight", "h.0.ln_1.weight"],
    layers: "h.", body: ["wte", "wpe", "ln_f"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let (configuration, tensors, prefix) = (builder.configuration, builder.tensors, builder.prefix)
    let table = prefix + "wte.weight"
    let found = try tensors.matrix(table)
    let vocabulary = try configuration.size("vocab_size") ?? found.rows
    let hidden = try configuration.size("n_embd", "hidden_size") ?? found.columns
    let contextLength =
      try configuration.size("n_positions", "n_ctx", "max_position_embeddings")
      ?? tensors.matrix(prefix + "wpe.weight").rows
    let inner = try configuration.size("n_inner") ?? 4 * hidden
    let epsilon = try configuration.epsilon("layer_norm_epsilon") ?? 1e-5
    let kind = try configuration.activation("activation_function") ?? .geluTanh
    let heads = try configuration.size("n_head", "num_attention_heads")
    let headSize = try heads.map { try configuration.quotient(hidden, $0, "heads") } ?? 0
    let isScaled = try configuration.flag("scale_attn_weights") ?? true
    let isScaledByLayer = try configuration.flag("scale_attn_by_inverse_layer_idx") ?? false

    func norm(_ name: String, _ input: String) -> String {
      builder.layerNorm(name, input, size: hidden, epsilon: epsilon)
    }
    func linear(_ name: String, _ input: String, _ inFeatures: Int, _ outFeatures: Int) -> String {
      builder.linear(
        name, input, inFeatures, outFeatures, weight: .transposed("\(name).weight"), bias: .required)
    }

    let tokens = builder.add("token_ids", .tokenIDs)
    let positionIDs = builder.add("position_ids", .positionIDs)
    let words = builder.embedding(prefix + "wte", tokens, rowCount: vocabulary, size: hidden)
    let positions = builder.embedding(prefix + "wpe", positionIDs, rowCount: contextLength, size: hidden)
    var value = builder.add(prefix + "embeddings", .add, words, positions)
    let configured = try configuration.size("n_layer", "num_hidden_layers")
    for index in try builder.countLayers(prefix + "h.", configured: configured) {
      let layer = prefix + "h.\(index)."
      var scale: Float? = isScaled || heads == nil ? nil : 1
      if isScaledByLayer, headSize > 0 {
        scale = (scale ?? 1 / Float(headSize).squareRoot()) / Float(index + 1)
      }
      let attention = Attention(
        headCount: heads ?? 0, keyValueHeadCount: heads ?? 0, headSize: headSize, scale: scale, isCausal: true,
        positions: .none)
      var normed = norm(layer + "ln_1", value)
      let fused = linear(layer + "attn.c_attn", normed, hidden, 3 * hidden)
      let parts = ["query", "key", "value"].enumerated().map { part, name in
        builder.add(
          "\(layer)attn.\(name)", .channelSlice(ChannelSlice(part: part, partCount: 3, blockSize: hidden)), fused)
      }
      let mixed = builder.add(layer + "attn", .attention(attention), parts[0], parts[1], parts[2])
      value = builder.add(
        layer + "attention_sum", .add, value, linear(layer + "attn.c_proj", mixed, hidden, hidden))

      normed = norm(layer + "ln_2", value)
      let active = builder.add(
        layer + "mlp.act", .activation(kind), linear(layer + "mlp.c_fc", normed, hidden, inner))
      value = builder.add(layer + "mlp_sum", .add, value, linear(layer + "mlp.c_proj", active, inner, hidden))
    }
    value = norm(prefix + "ln_f", value)
    let isTied =
      try configuration.flag("tie_word_embeddings") ?? (configuration.isPresent || tensors["lm_head.weight"] == nil)
    try builder.decoderHead("lm_head", value, hidden, vocabulary: vocabulary, table: table, isTied: isTied)
    builder.vocabularySize = vocabulary
    builder.contextLength = contextLength
    builder.missing = configuration.isPresent ? [] : ["activation_function", "layer_norm_epsilon"]
    if heads == nil { builder.missing.append("n_head") }
  }
}
