/// Qwen3 (arXiv:2505.09388): LLaMA's decoder, with a norm over each head of queries and keys.
package enum Qwen3Family: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "qwen3", modelTypes: ["qwen3"], architectures: ["Qwen3"], prefixes: ["model.", ""],
    anchor: "embed_tokens.weight",
    signature: [
      "layers.0.mlp.gate_proj.weight", "layers.0.input_layernorm.weight", "layers.0.self_attn.q_norm.weight",
    ], layers: "layers.", body: ["norm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let bias = try GraphBuilder.Bias(builder.configuration, "attention_bias")
    var decoder = RotaryDecoder(inputBias: bias, outputBias: bias)
    decoder.windows = { try $0.qwenWindows(count: $1) }
    decoder.between = RotaryDecoder.headNorms(builder)
    try decoder.build(&builder)
  }
}

extension RotaryDecoder {
  /// Norms over each head of queries and keys, `q_norm` and `k_norm`, to whose gains `offset` is added.
  static func headNorms(_ builder: GraphBuilder, offset: Float = 0) -> Between {
    // Without a configuration, a head is as wide as its norm.
    let found = builder.tensors.dimensions(builder.prefix + "layers.0.self_attn.q_norm.weight")?.first ?? 0
    return { builder, linear, value, channelCount, headSize, epsilon in
      let size = headSize > 0 ? headSize : found
      return builder.headNorm(
        String(linear.dropLast("proj".count)) + "norm", value, headSize: size,
        headCount: size > 0 ? channelCount / size : 0, epsilon: epsilon, offset: offset)
    }
  }
}
