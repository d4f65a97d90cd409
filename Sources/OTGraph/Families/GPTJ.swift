/// GPT-J (Wang and Komatsuzaki, 2021): attention and MLP side by side behind one norm, a rotation of neighbouring
/// channels.
package enum GPTJFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "gptj", modelTypes: ["gptj"], architectures: ["GPTJ"], prefixes: ["transformer.", ""],
    anchor: "wte.weight", signature: ["h.0.attn.q_proj.weight", "h.0.mlp.fc_in.weight", "h.0.ln_1.weight"],
    layers: "h.", body: ["wte", "ln_f"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let (configuration, prefix) = (builder.configuration, builder.prefix)
    try configuration.require(family: facts.name)
    let table = prefix + "wte.weight"
    let found = try builder.tensors.matrix(table)
    let vocabulary = try configuration.size("vocab_size") ?? found.rows
    let hidden = try configuration.size("n_embd", "hidden_size") ?? found.columns
    let inner = try configuration.size("n_inner") ?? 4 * hidden
    let epsilon = try configuration.epsilon("layer_norm_epsilon") ?? 1e-5
    let kind = try configuration.activation("activation_function") ?? .geluTanh
    let heads = try configuration.size("n_head", "num_attention_heads") ?? 16
    let headSize = try configuration.quotient(hidden, heads, "heads")
    // Written by the first tools.
    try configuration.expect("rotary", .bool(true))
    let isRotatedWhole = configuration.contains("rotary_dim") && configuration.value("rotary_dim") == nil
    let rotated = isRotatedWhole ? headSize : try configuration.size("rotary_dim") ?? 64
    guard rotated % 2 == 0, rotated <= headSize, !isRotatedWhole || heads == 1 else {
      throw configuration.refusal("'rotary_dim' is not supported for heads of \(headSize) channels")
    }
    let attention = Attention(
      headCount: heads, keyValueHeadCount: heads, headSize: headSize, isCausal: true,
      positions: .rotary(Rotary(theta: 10000, dimensions: rotated, isInterleaved: true)))
    var block = GraphBuilder.AttentionBlock(attention, hidden: hidden, bias: .denied)
    block.inputBias = .unstated
    block.outputBias = .unstated
    let mlp = GraphBuilder.MLP(hidden: hidden, inner: inner, kind: kind, bias: .required)

    let tokens = builder.add("token_ids", .tokenIDs)
    var value = builder.embedding(prefix + "wte", tokens, rowCount: vocabulary, size: hidden)
    let configured = try configuration.size("n_layer", "num_hidden_layers")
    for index in try builder.countLayers(prefix + "h.", configured: configured) {
      let layer = prefix + "h.\(index)."
      let names = ["q_proj", "k_proj", "v_proj", "out_proj"].map { "\(layer)attn.\($0)" }
      let normed = builder.layerNorm(layer + "ln_1", value, size: hidden, epsilon: epsilon)
      value = builder.residuals(
        layer, value, isParallel: true,
        attention: { builder, _ in
          builder.attention(layer + "attn", normed, block, linears: (names[0], names[1], names[2], names[3]))
        },
        mlp: { builder, _ in
          builder.mlp(
            normed, mlp, first: layer + "mlp.fc_in", activation: layer + "mlp.act", second: layer + "mlp.fc_out")
        })
    }
    value = builder.layerNorm(prefix + "ln_f", value, size: hidden, epsilon: epsilon)
    builder.vocabularySize = vocabulary
    builder.contextLength = try configuration.size("n_positions", "n_ctx", "max_position_embeddings") ?? 2048
    let isTied = try configuration.flag("tie_word_embeddings") ?? false
    try builder.decoderHead(
      "lm_head", value, hidden, vocabulary: vocabulary, table: table, isTied: isTied, bias: .required)
  }
}
