/// Phi-1, Phi-1.5 and Phi-2 (arXiv:2306.11644, 2309.05463): attention and MLP side by side behind one norm, biases
/// everywhere, a rotation of a part of each head.
package enum PhiFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "phi", modelTypes: ["phi"], architectures: ["Phi"], prefixes: ["model.", ""], anchor: "embed_tokens.weight",
    signature: ["layers.0.self_attn.dense.weight", "layers.0.mlp.fc1.weight", "final_layernorm.weight"],
    layers: "layers.", body: ["norm", "final_layernorm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    try configuration.require(family: facts.name)
    var decoder = RotaryDecoder(inputBias: .required, outputBias: .required, mlpBias: .required)
    decoder.norms = .shared
    decoder.normKind = .layer(.required)
    (decoder.epsilon, decoder.epsilonMember) = (1e-5, "layer_norm_eps")
    decoder.lastNorm = "final_layernorm"
    decoder.outputName = "dense"
    decoder.mlp = .plain("mlp.fc1", "mlp.fc2")
    decoder.activation.usual = .geluTanh
    decoder.headBias = .required
    decoder.contextLength = 2048
    decoder.rotates(Configuration.RotaryMembers(canBePartial: true, usualFraction: 0.5))
    if try configuration.flag("qk_layernorm") ?? false {
      decoder.between = { builder, linear, value, channelCount, headSize, epsilon in
        builder.headLayerNorm(
          String(linear.dropLast("proj".count)) + "layernorm", value, headSize: headSize,
          headCount: channelCount / max(headSize, 1), epsilon: epsilon, bias: .required)
      }
    }
    try decoder.build(&builder)
  }
}

extension RotaryDecoder {
  /// Sets the positions to one rotation of all layers.
  mutating func rotates(_ members: Configuration.RotaryMembers) {
    positions = { configuration, count, headSize in
      [Attention.Positions](
        repeating: .rotary(try configuration.rotary(headSize: headSize, members)), count: count)
    }
  }
}
