/// OPT (Zhang et al., arXiv:2205.01068), Galactica included.
///
/// Norms stand before attention and MLP, or (opt-350m:
/// `do_layer_norm_before: false`) after the residual additions. Embeddings may
/// be narrower than the blocks, with projections on both sides.
package enum OPTFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "opt", modelTypes: ["opt"], architectures: ["OPT"],
    prefixes: ["model.decoder.", "decoder.", "model.model.decoder."], anchor: "embed_tokens.weight",
    signature: ["embed_positions.weight", "layers.0.fc1.weight"], layers: "layers.", body: [""])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let (configuration, tensors, prefix) = (builder.configuration, builder.tensors, builder.prefix)
    let table = prefix + "embed_tokens.weight"
    let positions = prefix + "embed_positions.weight"
    let found = try tensors.matrix(table)
    let foundPositions = try tensors.matrix(positions)
    // Two rows come before that of position 0, for padding.
    let rowOffset = 2
    let hidden = try configuration.size("hidden_size") ?? foundPositions.columns
    let embeddingSize = try configuration.size("word_embed_proj_dim") ?? found.columns
    let vocabulary = try configuration.size("vocab_size") ?? found.rows
    let contextLength =
      try configuration.size("max_position_embeddings") ?? max(foundPositions.rows - rowOffset, 1)
    let layer0 = prefix + "layers.0."
    // Old configurations leave these flags out; the model then has the parameters.
    let hasBias =
      try configuration.flag("enable_bias")
      ?? (configuration.isPresent || tensors[layer0 + "fc1.bias"] != nil)
    let inner = try configuration.size("ffn_dim") ?? tensors.matrix(layer0 + "fc1.weight").rows
    let hasNormParameters =
      try configuration.flag("layer_norm_elementwise_affine")
      ?? (configuration.isPresent || tensors[layer0 + "final_layer_norm.weight"] != nil)
    let finalNorm = prefix + "final_layer_norm"
    let normsBefore =
      try configuration.flag("do_layer_norm_before")
      ?? (configuration.isPresent || tensors[finalNorm + ".weight"] != nil)
    let removesFinalNorm =
      try configuration.flag("_remove_final_layer_norm")
      ?? (!configuration.isPresent && tensors[finalNorm + ".weight"] == nil)
    let activation = try configuration.activation("activation_function") ?? .relu
    let heads = try configuration.size("num_attention_heads")
    let headSize = try heads.map { try configuration.quotient(hidden, $0, "heads") } ?? 0
    let attention = Attention(
      headCount: heads ?? 0, keyValueHeadCount: heads ?? 0, headSize: headSize, isCausal: true,
      positions: .none)
    let bias = GraphBuilder.Bias(hasBias)
    let block = GraphBuilder.AttentionBlock(attention, hidden: hidden, bias: bias)
    let mlp = GraphBuilder.MLP(hidden: hidden, inner: inner, kind: activation, bias: bias)

    let tokens = builder.add("token_ids", .tokenIDs)
    let positionIDs = builder.add("position_ids", .positionIDs)
    var value = builder.embedding(
      prefix + "embed_tokens", tokens, rowCount: vocabulary, size: embeddingSize)
    if embeddingSize != hidden {
      value = builder.linear(
        prefix + "project_in", value, embeddingSize, hidden, role: .head)
    }
    let position = builder.embedding(
      prefix + "embed_positions", positionIDs, rowCount: contextLength + rowOffset, size: hidden,
      rowOffset: rowOffset)
    value = builder.add(prefix + "embeddings", .add, value, position)

    func norm(_ name: String, _ input: String) -> String {
      builder.layerNorm(
        name, input, size: hidden, epsilon: 1e-5, hasParameters: hasNormParameters)
    }
    let configured = try configuration.size("num_hidden_layers")
    for index in try builder.countLayers(prefix + "layers.", configured: configured) {
      let layer = prefix + "layers.\(index)."
      let names = ["q_proj", "k_proj", "v_proj", "out_proj"].map { "\(layer)self_attn.\($0)" }
      var input = value
      if normsBefore { input = norm(layer + "self_attn_layer_norm", value) }
      let attended = builder.attention(
        layer + "self_attn", input, block, linears: (names[0], names[1], names[2], names[3]))
      value = builder.add(layer + "attention_sum", .add, value, attended)
      if !normsBefore { value = norm(layer + "self_attn_layer_norm", value) }

      input = value
      if normsBefore { input = norm(layer + "final_layer_norm", value) }
      let second = builder.mlp(
        input, mlp, first: layer + "fc1", activation: layer + "activation_fn", second: layer + "fc2")
      value = builder.add(layer + "mlp_sum", .add, value, second)
      if !normsBefore { value = norm(layer + "final_layer_norm", value) }
    }
    if normsBefore && !removesFinalNorm {
      value = norm(finalNorm, value)
    } else {
      for part in [".weight", ".bias"] { builder.ignore(finalNorm + part) }
    }
    if embeddingSize != hidden {
      value = builder.linear(prefix + "project_out", value, hidden, embeddingSize, role: .head)
    }
    let isTied =
      try configuration.flag("tie_word_embeddings") ?? (configuration.isPresent || tensors["lm_head.weight"] == nil)
    try builder.decoderHead("lm_head", value, embeddingSize, vocabulary: vocabulary, table: table, isTied: isTied)
    builder.vocabularySize = vocabulary
    builder.contextLength = contextLength
    builder.missing = configuration.isPresent ? [] : ["activation_function"]
    if heads == nil { builder.missing.append("num_attention_heads") }
  }
}
