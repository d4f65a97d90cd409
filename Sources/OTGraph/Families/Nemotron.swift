/// Nemotron-4 (arXiv:2402.16819) and Minitron: LayerNorm with a gain of 1 + γ, a plain MLP with the square of ReLU, a
/// rotation of a part of each head.
package enum NemotronFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "nemotron", modelTypes: ["nemotron"], architectures: ["Nemotron"], prefixes: ["model.", ""],
    anchor: "embed_tokens.weight",
    signature: ["layers.0.mlp.up_proj.weight", "layers.0.input_layernorm.bias", "layers.0.self_attn.q_proj.weight"],
    layers: "layers.", body: ["norm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    try configuration.require(family: facts.name)
    let bias = GraphBuilder.Bias(try configuration.flag("attention_bias") ?? false)
    var decoder = RotaryDecoder(
      inputBias: bias, outputBias: bias, mlpBias: GraphBuilder.Bias(try configuration.flag("mlp_bias") ?? false))
    decoder.normKind = .layer(.required)
    decoder.gainOffset = 1
    (decoder.epsilon, decoder.epsilonMember) = (1e-5, "norm_eps")
    decoder.mlp = .plain("mlp.up_proj", "mlp.down_proj")
    decoder.squaresActivation = try configuration.text("hidden_act") ?? "relu2" == "relu2"
    if decoder.squaresActivation { decoder.activation = (nil, .relu) }
    decoder.contextLength = 4096
    decoder.rotates(
      Configuration.RotaryMembers(
        canBePartial: true, usualFraction: 0.5, fractionMembers: ["partial_rotary_factor", "rope_percent"]))
    try decoder.build(&builder)
  }
}
