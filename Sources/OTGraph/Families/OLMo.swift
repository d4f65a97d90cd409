/// OLMo 1 (arXiv:2402.00838): LLaMA's decoder with LayerNorm without parameters, and queries, keys and values within
/// bounds.
package enum OLMoFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "olmo", modelTypes: ["olmo"], architectures: ["Olmo"], prefixes: ["model.", ""],
    anchor: "embed_tokens.weight", signature: ["layers.0.mlp.gate_proj.weight"], layers: "layers.", body: ["norm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    try configuration.require(family: facts.name)
    let bias = GraphBuilder.Bias(try configuration.flag("attention_bias") ?? false)
    var decoder = RotaryDecoder(inputBias: bias, outputBias: bias, mlpBias: .unstated)
    decoder.normKind = .plain
    (decoder.epsilon, decoder.epsilonMember) = (1e-5, nil)
    decoder.inputBound = try configuration.number("clip_qkv").map { Float($0) }
    decoder.contextLength = 2048
    try decoder.build(&builder)
  }
}
