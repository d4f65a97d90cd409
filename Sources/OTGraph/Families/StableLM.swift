/// StableLM (Stability AI, 2023): LLaMA's decoder with LayerNorm and a rotation of a part of each head; attention and
/// MLP one after the other, or side by side behind one norm.
package enum StableLMFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "stablelm", modelTypes: ["stablelm"], architectures: ["StableLm"], prefixes: ["model.", ""],
    anchor: "embed_tokens.weight", signature: LLaMAFamily.facts.signature + ["layers.0.input_layernorm.bias"],
    layers: "layers.", body: ["norm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    try configuration.require(family: facts.name)
    // Left over from the model's first code.
    try configuration.expectSame(as: "layer_norm_eps", usual: 1e-5, "norm_eps")
    try configuration.expect("rotary_scaling_factor", .number(1), .integer(1))
    let bias = GraphBuilder.Bias(try configuration.flag("use_qkv_bias") ?? false)
    var decoder = RotaryDecoder(inputBias: bias, outputBias: .denied)
    if try configuration.flag("use_parallel_residual") ?? false { decoder.norms = .shared }
    decoder.normKind = .layer(.required)
    (decoder.epsilon, decoder.epsilonMember) = (1e-5, "layer_norm_eps")
    decoder.heads = (32, 32)
    decoder.contextLength = 4096
    decoder.rotates(
      Configuration.RotaryMembers(
        canBePartial: true, usualFraction: 0.25, fractionMembers: ["partial_rotary_factor", "rope_pct"]))
    if try configuration.flag("qk_layernorm") ?? false {
      decoder.between = { builder, linear, value, channelCount, headSize, epsilon in
        builder.separateHeadNorms(
          String(linear.dropLast("proj".count)) + "layernorm", value, headSize: headSize,
          headCount: channelCount / max(headSize, 1), epsilon: epsilon)
      }
    }
    try decoder.build(&builder)
  }
}
