/// OLMo 2 (arXiv:2501.00656): LLaMA's decoder with norms after attention and MLP instead of before, and norms over all
/// heads of queries and of keys together.
package enum OLMo2Family: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "olmo2", modelTypes: ["olmo2"], architectures: ["Olmo2"], prefixes: ["model.", ""],
    anchor: "embed_tokens.weight",
    signature: [
      "layers.0.mlp.gate_proj.weight", "layers.0.post_feedforward_layernorm.weight",
      "layers.0.self_attn.q_norm.weight",
    ], layers: "layers.", body: ["norm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let bias = try GraphBuilder.Bias(builder.configuration, "attention_bias")
    var decoder = RotaryDecoder(inputBias: bias, outputBias: bias)
    decoder.norms = .after
    decoder.epsilon = 1e-5
    decoder.between = { builder, linear, value, channelCount, _, epsilon in
      builder.rmsNorm(String(linear.dropLast("proj".count)) + "norm", value, size: channelCount, epsilon: epsilon)
    }
    try decoder.build(&builder)
  }
}
