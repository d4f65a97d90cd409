import OTJSON
import OTPlatform

/// MPT (MosaicML, 2023): GPT-2 without biases and without embeddings of positions, for which it has biases by position.
package enum MPTFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "mpt", modelTypes: ["mpt"], architectures: ["Mpt"], prefixes: ["transformer.", ""], anchor: "wte.weight",
    signature: ["blocks.0.attn.Wqkv.weight", "blocks.0.norm_1.weight"], layers: "blocks.", body: ["wte", "norm_f"],
    publishedCode: ["modeling_mpt.MPTForCausalLM"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let (configuration, prefix) = (builder.configuration, builder.prefix)
    try configuration.require(family: facts.name)
    let table = prefix + "wte.weight"
    let found = try builder.tensors.matrix(table)
    let vocabulary = try configuration.size("vocab_size") ?? found.rows
    let hidden = try configuration.size("d_model", "hidden_size") ?? found.columns
    let epsilon = try configuration.epsilon("layer_norm_epsilon") ?? 1e-5
    let heads = try configuration.size("n_heads", "num_attention_heads") ?? 16
    let headSize = try configuration.quotient(hidden, heads, "heads")
    try LinearBias.check(headCount: heads, configuration)
    guard try configuration.number("expansion_ratio") ?? 4 == 4 else {
      throw configuration.refusal("'expansion_ratio' is not supported: versions of transformers read it otherwise")
    }
    try configuration.expect("no_bias", .bool(true))
    try configuration.expect("norm_type", .string("low_precision_layernorm"), .string("layernorm"))
    let options = try options(configuration)
    let attention = Attention(
      headCount: heads, keyValueHeadCount: heads, headSize: headSize, scale: options.scale, isCausal: true,
      positions: .slopes(LinearBias(slopes: slopes(headCount: heads))))
    let mlp = GraphBuilder.MLP(hidden: hidden, inner: 4 * hidden, kind: .gelu, bias: .unstated)

    func norm(_ builder: inout GraphBuilder, _ name: String, _ input: String) -> String {
      builder.layerNorm(name, input, size: hidden, epsilon: epsilon, bias: .unstated)
    }
    let tokens = builder.add("token_ids", .tokenIDs)
    var value = builder.embedding(prefix + "wte", tokens, rowCount: vocabulary, size: hidden)
    let configured = try configuration.size("n_layers", "num_hidden_layers")
    for index in try builder.countLayers(prefix + "blocks.", configured: configured) {
      let layer = prefix + "blocks.\(index)."
      let block = GraphBuilder.FusedAttention(
        attention: attention, hidden: hidden, fused: layer + "attn.Wqkv", output: layer + "attn.out_proj",
        bias: .unstated, bound: options.bound, areGrouped: false)
      value = builder.residuals(
        layer, value, isParallel: false,
        attention: { $0.attention(layer + "attn", norm(&$0, layer + "norm_1", $1), block) },
        mlp: {
          $0.mlp(
            norm(&$0, layer + "norm_2", $1), mlp, first: layer + "ffn.up_proj", activation: layer + "ffn.act",
            second: layer + "ffn.down_proj")
        })
    }
    value = norm(&builder, prefix + "norm_f", value)
    builder.vocabularySize = vocabulary
    builder.contextLength = try configuration.size("max_seq_len") ?? 2048
    let isTied = try configuration.flag("tie_word_embeddings") ?? true
    try builder.decoderHead("lm_head", value, hidden, vocabulary: vocabulary, table: table, isTied: isTied)
  }

  /// What `attn_config` says.
  private static func options(_ configuration: Configuration) throws -> (bound: Float?, scale: Float?) {
    guard let json = configuration.value("attn_config") else { return (nil, nil) }
    let inside = try Configuration(json, file: configuration.file)
    try inside.expect("attn_type", .string("multihead_attention"))
    for member in ["prefix_lm", "qk_ln", "attn_uses_sequence_id"] { try inside.expect(member, .bool(false)) }
    try inside.expect("alibi", .bool(true))
    for member in ["attn_impl", "attn_pdrop"] { _ = inside.value(member) }
    // transformers takes 8 whatever it says, others what it says.
    try inside.expect("alibi_bias_max", .integer(8), .number(8))
    let options = (
      try inside.number("clip_qkv").map { Float($0) }, try inside.number("softmax_scale").map { Float($0) }
    )
    try inside.checkMembers(family: facts.name)
    return options
  }

  /// ALiBi's slopes for the next higher power of 2; for other head counts, every second of them, then the rest.
  private static func slopes(headCount: Int) -> [Float] {
    var power = 1
    while power < headCount { power *= 2 }
    let all = (1...power).map { Float(exp2(-8 * Double($0) / Double(power))) }
    guard power != headCount else { return all }
    let (odd, even) = (stride(from: 1, to: power, by: 2), stride(from: 0, to: power, by: 2))
    return Array((odd.map { all[$0] } + even.map { all[$0] }).prefix(headCount))
  }
}

extension LinearBias {
  /// Heads that may have slopes of their own: some times as many as any model has.
  private static let largestHeadCount = 1 << 16

  /// Refuses a number of heads whose slopes would fill the memory, before any tensor has been looked at.
  static func check(headCount: Int, _ configuration: Configuration) throws {
    guard headCount <= largestHeadCount else {
      throw configuration.refusal("\(headCount) heads are more than \(largestHeadCount)")
    }
  }
}
