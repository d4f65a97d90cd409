/// GPT BigCode (arXiv:2301.03988): SantaCoder and StarCoder 1, GPT-2 with one head of keys and values.
package enum GPTBigCodeFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "gpt_bigcode", modelTypes: ["gpt_bigcode"], architectures: ["GPTBigCode"], prefixes: ["transformer.", ""],
    anchor: "wte.weight", signature: GPT2Family.facts.signature, layers: "h.", body: ["wte", "wpe", "ln_f"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let (configuration, prefix) = (builder.configuration, builder.prefix)
    try configuration.require(family: facts.name)
    let table = prefix + "wte.weight"
    let found = try builder.tensors.matrix(table)
    let vocabulary = try configuration.size("vocab_size") ?? found.rows
    let hidden = try configuration.size("n_embd", "hidden_size") ?? found.columns
    let contextLength = try configuration.size("n_positions", "n_ctx", "max_position_embeddings") ?? 1024
    let inner = try configuration.size("n_inner") ?? 4 * hidden
    let epsilon = try configuration.epsilon("layer_norm_epsilon") ?? 1e-5
    let kind = try configuration.activation("activation_function") ?? .geluTanh
    let heads = try configuration.size("n_head", "num_attention_heads") ?? 12
    let headSize = try configuration.quotient(hidden, heads, "heads")
    let sharesOne = try configuration.flag("multi_query") ?? true
    let groups = sharesOne ? 1 : heads
    if let stated = try configuration.size("num_key_value_heads"), stated != groups {
      throw configuration.refusal("'multi_query' and 'num_key_value_heads' contradict each other")
    }
    _ = try configuration.flag("scale_attention_softmax_in_fp32")
    let isScaled = try configuration.flag("scale_attn_weights") ?? true
    let attention = Attention(
      headCount: heads, keyValueHeadCount: groups, headSize: headSize, scale: isScaled ? nil : 1, isCausal: true,
      positions: .none)
    let mlp = GraphBuilder.MLP(hidden: hidden, inner: inner, kind: kind, bias: .required)

    func norm(_ builder: inout GraphBuilder, _ name: String, _ input: String) -> String {
      builder.layerNorm(name, input, size: hidden, epsilon: epsilon)
    }
    let tokens = builder.add("token_ids", .tokenIDs)
    let positionIDs = builder.add("position_ids", .positionIDs)
    let words = builder.embedding(prefix + "wte", tokens, rowCount: vocabulary, size: hidden)
    let positions = builder.embedding(prefix + "wpe", positionIDs, rowCount: contextLength, size: hidden)
    var value = builder.add(prefix + "embeddings", .add, words, positions)
    let configured = try configuration.size("n_layer", "num_hidden_layers")
    for index in try builder.countLayers(prefix + "h.", configured: configured) {
      let layer = prefix + "h.\(index)."
      let block = GraphBuilder.FusedAttention(
        attention: attention, hidden: hidden, fused: layer + "attn.c_attn", output: layer + "attn.c_proj",
        bias: .required)
      value = builder.residuals(
        layer, value, isParallel: false,
        attention: { $0.attention(layer + "attn", norm(&$0, layer + "ln_1", $1), block) },
        mlp: {
          $0.mlp(
            norm(&$0, layer + "ln_2", $1), mlp, first: layer + "mlp.c_fc", activation: layer + "mlp.act",
            second: layer + "mlp.c_proj")
        })
    }
    value = norm(&builder, prefix + "ln_f", value)
    builder.vocabularySize = vocabulary
    builder.contextLength = contextLength
    let isTied = try configuration.flag("tie_word_embeddings") ?? true
    try builder.decoderHead("lm_head", value, hidden, vocabulary: vocabulary, table: table, isTied: isTied)
  }
}
