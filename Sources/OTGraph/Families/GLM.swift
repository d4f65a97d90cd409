/// GLM-4 (arXiv:2406.12793): LLaMA's decoder with gate and up in one tensor, and a rotation of neighbouring channels in a
/// part of each head. The models of 2025 (`glm4`) have norms behind attention and MLP, too.
package enum GLMFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "glm", modelTypes: ["glm", "glm4"], architectures: ["Glm", "Glm4"], prefixes: ["model.", ""],
    anchor: "embed_tokens.weight",
    signature: ["layers.0.mlp.gate_up_proj.weight", "layers.0.self_attn.q_proj.weight"], layers: "layers.",
    body: ["norm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    try configuration.require(family: facts.name)
    var decoder = RotaryDecoder(
      inputBias: GraphBuilder.Bias(try configuration.flag("attention_bias") ?? true), outputBias: .denied)
    if try configuration.text("model_type") == "glm4" {
      decoder.norms = RotaryDecoder.Norms(
        beforeAttention: "input_layernorm", afterAttention: "post_self_attn_layernorm",
        beforeMLP: "post_attention_layernorm", afterMLP: "post_mlp_layernorm")
    }
    decoder.mlp = .fused("mlp.gate_up_proj", output: "mlp.down_proj")
    decoder.epsilon = 1.5625e-7
    decoder.heads = (32, 2)
    decoder.headSize = 128
    decoder.contextLength = 131_072
    decoder.rotates(
      Configuration.RotaryMembers(canBePartial: true, usualFraction: 0.5, isInterleaved: true))
    try decoder.build(&builder)
  }
}
