/// GPT-NeoX (arXiv:2204.06745) and Pythia: attention and MLP side by side, or one after the other; queries, keys and
/// values of a head from one linear, of which a part is rotated.
package enum GPTNeoXFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "gpt_neox", modelTypes: ["gpt_neox"], architectures: ["GPTNeoX"], prefixes: ["gpt_neox.", ""],
    anchor: "embed_in.weight", signature: ["layers.0.attention.query_key_value.weight", "final_layer_norm.weight"],
    layers: "layers.", body: ["embed_in", "final_layer_norm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let (configuration, prefix) = (builder.configuration, builder.prefix)
    try configuration.require(family: facts.name)
    let table = prefix + "embed_in.weight"
    let found = try builder.tensors.matrix(table)
    let vocabulary = try configuration.size("vocab_size") ?? found.rows
    let hidden = try configuration.size("hidden_size") ?? found.columns
    let inner = try configuration.size("intermediate_size") ?? 24576
    let epsilon = try configuration.epsilon("layer_norm_eps") ?? 1e-5
    let kind = try configuration.activation("hidden_act") ?? .gelu
    let heads = try configuration.size("num_attention_heads") ?? 64
    let headSize = try configuration.quotient(hidden, heads, "heads")
    let isParallel = try configuration.flag("use_parallel_residual") ?? true
    let rotary = try configuration.rotary(
      headSize: headSize,
      Configuration.RotaryMembers(
        canBePartial: true, usualFraction: 0.25, thetaMembers: ["rotary_emb_base", "rope_theta"],
        fractionMembers: ["rotary_pct", "partial_rotary_factor"]))
    let attention = Attention(
      headCount: heads, keyValueHeadCount: heads, headSize: headSize, isCausal: true, positions: .rotary(rotary))
    let bias = GraphBuilder.Bias(try configuration.flag("attention_bias") ?? true)
    let mlp = GraphBuilder.MLP(hidden: hidden, inner: inner, kind: kind, bias: .required)

    func norm(_ builder: inout GraphBuilder, _ name: String, _ input: String) -> String {
      builder.layerNorm(name, input, size: hidden, epsilon: epsilon)
    }
    let tokens = builder.add("token_ids", .tokenIDs)
    var value = builder.embedding(prefix + "embed_in", tokens, rowCount: vocabulary, size: hidden)
    let configured = try configuration.size("num_hidden_layers")
    for index in try builder.countLayers(prefix + "layers.", configured: configured) {
      let layer = prefix + "layers.\(index)."
      let block = GraphBuilder.FusedAttention(
        attention: attention, hidden: hidden, fused: layer + "attention.query_key_value",
        output: layer + "attention.dense", bias: bias)
      value = builder.residuals(
        layer, value, isParallel: isParallel,
        attention: { $0.attention(layer + "attention", norm(&$0, layer + "input_layernorm", $1), block) },
        mlp: {
          $0.mlp(
            norm(&$0, layer + "post_attention_layernorm", $1), mlp, first: layer + "mlp.dense_h_to_4h",
            activation: layer + "mlp.act", second: layer + "mlp.dense_4h_to_h")
        })
    }
    value = norm(&builder, prefix + "final_layer_norm", value)
    builder.vocabularySize = vocabulary
    builder.contextLength = try configuration.size("max_position_embeddings") ?? 2048
    // Published checkpoints have the older name.
    let head = builder.tensors["embed_out.weight"] == nil ? "lm_head" : "embed_out"
    let isTied = try configuration.flag("tie_word_embeddings") ?? false
    try builder.decoderHead(head, value, hidden, vocabulary: vocabulary, table: table, isTied: isTied)
  }
}
