/// Qwen3 with experts (arXiv:2505.09388).
package enum Qwen3MoEFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "qwen3_moe", modelTypes: ["qwen3_moe"], architectures: ["Qwen3Moe"], prefixes: ["model.", ""],
    anchor: "embed_tokens.weight",
    signature: [
      "layers.0.mlp.gate.weight", "layers.0.input_layernorm.weight", "layers.0.self_attn.q_norm.weight",
    ], layers: "layers.", body: ["norm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    try configuration.requireExperts()
    let bias = try GraphBuilder.Bias(configuration, "attention_bias")
    var decoder = RotaryDecoder(inputBias: bias, outputBias: bias)
    decoder.heads = (32, 4)
    decoder.between = RotaryDecoder.headNorms(builder)
    // All layers slide, or none does.
    decoder.windows = { configuration, count in
      let isUsed = try configuration.flag("use_sliding_window") ?? false
      let window = isUsed ? try configuration.window() : nil
      _ = configuration.value("sliding_window")
      return LayerWindows(all: window, count: count)
    }
    decoder.feedForward = try RotaryDecoder.qwenExperts(
      configuration, count: ["num_local_experts", "num_experts"], usual: (128, 8), inner: 768)
    try decoder.build(&builder)
  }
}

extension RotaryDecoder {
  /// The experts of Qwen's sparse layers, with what is usual where the configuration does not say it.
  ///
  /// - Throws: `Refusal` (`family-configuration`).
  static func qwenExperts(
    _ configuration: Configuration, count: [String], usual: (count: Int, chosen: Int), inner: Int
  ) throws -> FeedForward {
    let routing = try configuration.routing(
      count: count, usual: usual, isNormalized: configuration.flag("norm_topk_prob") ?? false)
    let inner = try configuration.size("moe_intermediate_size") ?? inner
    return { builder, layer in
      guard try builder.configuration.sparseLayers(count: layer.count)[layer.index] else { return nil }
      let experts = GraphBuilder.Experts(
        hidden: layer.mlp.hidden, inner: inner, kind: layer.mlp.kind, routing: routing)
      return builder.experts(layer.prefix + "mlp.", layer.input, experts)
    }
  }
}
