/// ModernBERT (arXiv:2412.13663).
///
/// An encoder with norms before attention and MLP, rotary positions, a gated MLP and no biases but those of the
/// heads. Most layers see the tokens around each alone, every third sees all, with another rotation.
package enum ModernBERTFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "modernbert", modelTypes: ["modernbert"], architectures: ["ModernBert"], prefixes: ["model.", ""],
    anchor: "embeddings.tok_embeddings.weight",
    signature: ["embeddings.norm.weight", "layers.0.attn.Wqkv.weight", "layers.0.mlp.Wi.weight"],
    layers: "layers.", body: ["embeddings", "final_norm"])

  /// The sizes and constants of a model.
  private struct Sizes {
    let vocabulary, hidden, inner: Int
    let headCount: Int?
    let kind: ActivationKind
    let epsilon: Float
    let normBias: GraphBuilder.Bias

    init(_ builder: GraphBuilder) throws {
      let (configuration, tensors) = (builder.configuration, builder.tensors)
      let found = try tensors.matrix(builder.prefix + facts.anchor)
      vocabulary = try configuration.size("vocab_size") ?? found.rows
      hidden = try configuration.size("hidden_size") ?? found.columns
      inner =
        try configuration.size("intermediate_size")
        ?? tensors.matrix(builder.prefix + "layers.0.mlp.Wo.weight").columns
      headCount = try configuration.size("num_attention_heads")
      kind = try configuration.activation("hidden_activation") ?? .gelu
      epsilon = try configuration.epsilon("norm_eps") ?? 1e-5
      normBias = try flag(configuration, "norm_bias")
    }
  }

  /// The presence of biases that a configuration need not state.
  private static func flag(
    _ configuration: Configuration, _ key: String, usual: Bool = false
  ) throws -> GraphBuilder.Bias {
    configuration.isPresent ? .init(try configuration.flag(key) ?? usual) : .optional
  }

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let (configuration, prefix) = (builder.configuration, builder.prefix)
    // What published configurations have and the model does not read, or only with some head.
    for name in ["position_embedding_type", "layer_norm_eps", "classifier_bias", "decoder_bias"] {
      _ = configuration.value(name)
    }
    let sizes = try Sizes(builder)
    let tokens = builder.add("token_ids", .tokenIDs)
    var value = builder.embedding(
      prefix + "embeddings.tok_embeddings", tokens, rowCount: sizes.vocabulary, size: sizes.hidden)
    value = norm(&builder, prefix + "embeddings.norm", value, sizes)
    let configured = try configuration.size("num_hidden_layers")
    let layers = try builder.countLayers(prefix + "layers.", configured: configured)
    let attentions = try attentions(configuration, sizes, layerCount: layers.count)
    let attentionBias = try flag(configuration, "attention_bias")
    let mlpBias = try flag(configuration, "mlp_bias")
    for (index, attention) in zip(layers, attentions) {
      let layer = "\(prefix)layers.\(index)."
      var block = GraphBuilder.AttentionBlock(attention, hidden: sizes.hidden, bias: attentionBias)
      block.fused = layer + "attn.Wqkv"
      // The first norm would be one after that of the embeddings.
      let normed = index == 0 ? value : norm(&builder, layer + "attn_norm", value, sizes)
      let attended = builder.attention(
        layer + "attn", normed, block,
        linears: (layer + "attn.query", layer + "attn.key", layer + "attn.value", layer + "attn.Wo"))
      value = builder.add(layer + "attention_sum", .add, value, attended)
      let added = mlp(
        &builder, layer + "mlp.", norm(&builder, layer + "mlp_norm", value, sizes), sizes, mlpBias)
      value = builder.add(layer + "mlp_sum", .add, value, added)
    }
    value = norm(&builder, prefix + "final_norm", value, sizes)
    builder.outputs["hidden"] = value
    builder.vocabularySize = sizes.vocabulary
    builder.contextLength = try configuration.size("max_position_embeddings") ?? (configuration.isPresent ? 8192 : nil)
    builder.missing = configuration.isPresent ? [] : ["norm_eps", "hidden_activation", "rope_theta", "local_attention"]
    if sizes.headCount == nil { builder.missing.append("num_attention_heads") }
    try heads(&builder, value, sizes)
  }

  private static func norm(_ builder: inout GraphBuilder, _ name: String, _ input: String, _ sizes: Sizes) -> String {
    builder.layerNorm(name, input, size: sizes.hidden, epsilon: sizes.epsilon, bias: sizes.normBias)
  }

  /// `Wo(act(a) ⊙ b)` with a and b from one linear.
  private static func mlp(
    _ builder: inout GraphBuilder, _ mlp: String, _ input: String, _ sizes: Sizes, _ bias: GraphBuilder.Bias
  ) -> String {
    let (hidden, inner) = (sizes.hidden, sizes.inner)
    let weights = builder.parts(of: mlp + "Wi.weight", [inner, inner], columnCount: hidden)
    let parts = ["input", "gate"].enumerated().map { index, name in
      builder.linear(
        mlp + name, input, hidden, inner, weight: weights[index], bias: bias,
        biasSource: .rows(of: .named(mlp + "Wi.bias"), index * inner..<(index + 1) * inner))
    }
    let active = builder.add(mlp + "act", .activation(sizes.kind), parts[0])
    let gated = builder.add(mlp + "gated", .multiply, active, parts[1])
    return builder.linear(mlp + "Wo", gated, inner, hidden, bias: bias)
  }

  private static func attentions(
    _ configuration: Configuration, _ sizes: Sizes, layerCount: Int
  ) throws -> [Attention] {
    guard let headCount = sizes.headCount else {
      return [Attention](
        repeating: Attention(
          headCount: 0, keyValueHeadCount: 0, headSize: 0, isCausal: false,
          positions: .rotary(Rotary(theta: 10000, dimensions: 0))), count: layerCount)
    }
    let headSize = try configuration.quotient(sizes.hidden, headCount, "heads")
    let every = try configuration.size("global_attn_every_n_layers") ?? 3
    let types =
      try configuration.layerTypes(count: layerCount)
      ?? (0..<layerCount).map { $0 % every == 0 ? .full : .sliding }
    if try configuration.rotaryObject("rope_scaling") != nil {
      throw configuration.refusal("'rope_scaling' is not supported for ModernBERT")
    }
    let parameters = try configuration.rotaryObject("rope_parameters")
    func rotary(_ type: Configuration.LayerType, _ member: String, _ usual: Double) throws -> Rotary {
      try configuration.rotary(
        parameters?[type.rawValue].flatMap { $0 == .null ? nil : $0 }, headSize: headSize,
        usualTheta: configuration.number(member) ?? usual)
    }
    if let other = parameters?.object?.members.first(where: { Configuration.LayerType(rawValue: $0.key) == nil }) {
      throw configuration.refusal("'rope_parameters' has '\(other.key)', which is not a type of layers")
    }
    let full = try rotary(.full, "global_rope_theta", 160_000)
    let sliding = try rotary(.sliding, "local_rope_theta", 10_000)
    // So many tokens to either side.
    let reach = try configuration.number("local_attention", allowsZero: true).map { Int($0) / 2 } ?? 64
    return types.map { type in
      Attention(
        headCount: headCount, keyValueHeadCount: headCount, headSize: headSize, isCausal: false,
        window: type == .sliding ? reach + 1 : nil, positions: .rotary(type == .sliding ? sliding : full))
    }
  }

  private static func heads(_ builder: inout GraphBuilder, _ value: String, _ sizes: Sizes) throws {
    let configuration = builder.configuration
    let task = configuration.task
    let isMasked = configuration.architectureEnds(in: "ForMaskedLM") || builder.tensors["decoder.bias"] != nil
    guard task != nil || isMasked else { return }
    var input = value
    if task == .sequenceClassification {
      switch try configuration.text("classifier_pooling") ?? "cls" {
      case "cls": input = builder.add("head.first_token", .firstToken, value)
      case "mean": input = builder.add("head.mean", .meanTokens, value)
      case let other: throw configuration.refusal("pooling '\(other)' is not supported")
      }
    }
    let kind = try configuration.activation("classifier_activation") ?? .gelu
    let dense = builder.linear(
      "head.dense", input, sizes.hidden, sizes.hidden, bias: try flag(configuration, "classifier_bias"), role: .head)
    let normed = norm(&builder, "head.norm", builder.add("head.act", .activation(kind), dense), sizes)
    if let task { return try builder.classifier("classifier", normed, sizes.hidden, for: task) }
    builder.outputs["logits"] = builder.head(
      "decoder", normed, sizes.hidden, sizes.vocabulary, table: .named(builder.prefix + facts.anchor),
      isTied: try configuration.flag("tie_word_embeddings") ?? true,
      bias: try flag(configuration, "decoder_bias", usual: true))
  }
}
