/// Falcon (arXiv:2311.16867): attention and MLP side by side or one after the other, behind one norm or two; queries,
/// keys and values from one linear, by groups or with one head of keys and values; rotation, or biases by position.
package enum FalconFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "falcon", modelTypes: ["falcon"], architectures: ["Falcon"], prefixes: ["transformer.", ""],
    anchor: "word_embeddings.weight",
    signature: ["h.0.self_attention.query_key_value.weight", "h.0.mlp.dense_h_to_4h.weight"],
    layers: "h.", body: ["word_embeddings", "ln_f"],
    publishedCode: [
      "Model", "ForCausalLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering",
    ].map { "modeling_falcon.Falcon\($0)" })

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let (configuration, prefix) = (builder.configuration, builder.prefix)
    try configuration.require(family: facts.name)
    let table = prefix + "word_embeddings.weight"
    let found = try builder.tensors.matrix(table)
    let vocabulary = try configuration.size("vocab_size") ?? found.rows
    let hidden = try configuration.size("n_embed", "hidden_size") ?? found.columns
    let inner = try configuration.size("ffn_hidden_size") ?? 4 * hidden
    let epsilon = try configuration.epsilon("layer_norm_epsilon") ?? 1e-5
    let kind = try configuration.activation("activation") ?? .gelu
    // Nothing reads it, though BLOOM's code did.
    try configuration.expect("apply_residual_connection_post_layernorm", .bool(false))
    let bias = GraphBuilder.Bias(try configuration.flag("bias") ?? false)
    let isNew = try configuration.flag("new_decoder_architecture") ?? false
    let isParallel = try configuration.flag("parallel_attn") ?? true
    guard isParallel || !isNew else {
      throw configuration.refusal("'new_decoder_architecture' without 'parallel_attn' is not supported")
    }
    let attention = try attention(configuration, hidden: hidden, isNew: isNew)
    let mlp = GraphBuilder.MLP(hidden: hidden, inner: inner, kind: kind, bias: bias)
    // Where attention and MLP have a norm each, the newer architecture names it so.
    let normCount = try configuration.size("num_ln_in_parallel_attn") ?? (isNew ? 2 : 1)
    guard normCount == 1 || (normCount == 2 && isNew) else {
      throw configuration.refusal("'num_ln_in_parallel_attn' is not supported")
    }

    func norm(_ builder: inout GraphBuilder, _ name: String, _ input: String) -> String {
      builder.layerNorm(name, input, size: hidden, epsilon: epsilon)
    }
    let tokens = builder.add("token_ids", .tokenIDs)
    var value = builder.embedding(prefix + "word_embeddings", tokens, rowCount: vocabulary, size: hidden)
    let configured = try configuration.size("num_hidden_layers", "n_layer")
    for index in try builder.countLayers(prefix + "h.", configured: configured) {
      let layer = prefix + "h.\(index)."
      let block = GraphBuilder.FusedAttention(
        attention: attention, hidden: hidden, fused: layer + "self_attention.query_key_value",
        output: layer + "self_attention.dense", bias: bias)
      let normed = norm(&builder, layer + (normCount == 2 ? "ln_attn" : "input_layernorm"), value)
      value = builder.residuals(
        layer, value, isParallel: isParallel,
        attention: { builder, _ in builder.attention(layer + "self_attention", normed, block) },
        mlp: { builder, stream in
          var input = normed
          if normCount == 2 {
            input = norm(&builder, layer + "ln_mlp", stream)
          } else if !isParallel {
            input = norm(&builder, layer + "post_attention_layernorm", stream)
          }
          return builder.mlp(
            input, mlp, first: layer + "mlp.dense_h_to_4h", activation: layer + "mlp.act",
            second: layer + "mlp.dense_4h_to_h")
        })
    }
    value = norm(&builder, prefix + "ln_f", value)
    builder.vocabularySize = vocabulary
    builder.contextLength = try configuration.size("max_position_embeddings") ?? 2048
    let isTied = try configuration.flag("tie_word_embeddings") ?? true
    try builder.decoderHead("lm_head", value, hidden, vocabulary: vocabulary, table: table, isTied: isTied)
  }

  private static func attention(_ configuration: Configuration, hidden: Int, isNew: Bool) throws -> Attention {
    let heads = try configuration.size("num_attention_heads", "n_head") ?? 71
    let headSize = try configuration.quotient(hidden, heads, "heads")
    let stated = try configuration.size("num_kv_heads", "n_head_kv") ?? heads
    let sharesOne = try configuration.flag("multi_query") ?? true
    let groups = isNew ? stated : sharesOne ? 1 : heads
    guard isNew || sharesOne || stated == heads, heads % groups == 0 else {
      throw configuration.refusal("\(heads) heads cannot share \(stated) of keys and values in this architecture")
    }
    var positions = Attention.Positions.none
    if try configuration.flag("alibi") ?? false {
      try LinearBias.check(headCount: heads, configuration)
      // Slopes and biases are rounded to bfloat16, and scaled with the products.
      let slopes = LinearBias.slopes(headCount: heads).map(\.roundedToBFloat16)
      positions = .slopes(LinearBias(slopes: slopes, roundedFactor: 1 / Float(headSize).squareRoot()))
      for member in ["rope_theta", "rope_parameters", "rope_scaling"] { _ = configuration.value(member) }
    } else {
      positions = .rotary(try configuration.rotary(headSize: headSize))
    }
    return Attention(
      headCount: heads, keyValueHeadCount: groups, headSize: headSize, isCausal: true, positions: positions)
  }
}
