/// Phi-3 (arXiv:2404.14219), Phi-3.5 and Phi-4: LLaMA's decoder with queries, keys and values in one tensor, gate and
/// up in another, and, in Phi-4-mini, a rotation of a part of each head.
package enum Phi3Family: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "phi3", modelTypes: ["phi3"], architectures: ["Phi3"], prefixes: ["model.", ""],
    anchor: "embed_tokens.weight",
    signature: ["layers.0.mlp.gate_up_proj.weight", "layers.0.self_attn.qkv_proj.weight"], layers: "layers.",
    body: ["norm"], publishedCode: ["modeling_phi3.Phi3ForCausalLM"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    // Phi-4-mini states it: every so many layers see all tokens.
    guard try builder.configuration.size("full_attn_mod") ?? 1 == 1 else {
      throw builder.configuration.refusal("'full_attn_mod' is not supported")
    }
    var decoder = RotaryDecoder()
    decoder.fusesInputs = true
    decoder.mlp = .fused("mlp.gate_up_proj", output: "mlp.down_proj")
    decoder.epsilon = 1e-5
    decoder.windows = { LayerWindows(all: try $0.window(usual: nil), count: $1) }
    decoder.positions = { configuration, count, headSize in
      let members = Configuration.RotaryMembers(
        canBePartial: true, usualOriginalLength: 4096, synonyms: ["su": "longrope", "yarn": "longrope"])
      return [Attention.Positions](
        repeating: .rotary(try configuration.rotary(headSize: headSize, members)), count: count)
    }
    try decoder.build(&builder)
  }
}
