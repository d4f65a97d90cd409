import OTJSON

/// Granite 4 (IBM, 2025) without recurrent layers and without experts: Granite 3 with gate and up in one tensor, and
/// with or without positions.
package enum GraniteHybridFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "granitemoehybrid", modelTypes: ["granitemoehybrid"], architectures: ["GraniteMoeHybrid"],
    prefixes: ["model.", ""], anchor: "embed_tokens.weight",
    signature: ["layers.0.shared_mlp.input_linear.weight", "layers.0.self_attn.q_proj.weight"], layers: "layers.",
    body: ["norm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    try configuration.require(family: facts.name)
    let experts = configuration.value("num_local_experts")?.integer ?? 8
    guard experts == 0 else { throw configuration.refusal("a mixture of \(experts) experts is not supported") }
    _ = configuration.value("num_experts_per_tok")
    try configuration.expect("normalization_function", .string("rmsnorm"))
    // Those of layers that the model does not have.
    for member in configuration.unreadMembers.map(\.key) where member.hasPrefix("mamba_") {
      _ = configuration.value(member)
    }
    var decoder = try RotaryDecoder.granite(configuration)
    decoder.mlp = .fused("shared_mlp.input_linear", output: "shared_mlp.output_linear")
    decoder.innerMember = "shared_intermediate_size"
    decoder.contextLength = 2048
    decoder.windows = { configuration, count in
      for member in ["layer_types", "layers_block_type"] {
        guard let types = configuration.value(member) else { continue }
        let names = types.array?.compactMap(\.string) ?? []
        if let other = names.first(where: { !["attention", "full_attention"].contains($0) }) {
          let what = other == "mamba" ? "keep a state from token to token, which is not run" : "are not supported"
          throw configuration.refusal("layers of type '\(other)' \(what)")
        }
        guard names.count == count else { throw configuration.refusal("'\(member)' is no list of \(count) layers") }
        return LayerWindows(none: count)
      }
      throw configuration.refusal("'layer_types' is missing")
    }
    decoder.positions = { configuration, count, headSize in
      try configuration.expect("position_embedding_type", .string("rope"), .string("nope"))
      let rotary = try configuration.rotary(headSize: headSize)
      let isRotated = try configuration.text("position_embedding_type") == "rope"
      return [Attention.Positions](repeating: isRotated ? .rotary(rotary) : .none, count: count)
    }
    try decoder.build(&builder)
  }
}
