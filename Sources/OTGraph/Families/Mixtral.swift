/// Mixtral (arXiv:2401.04088): LLaMA's decoder, with experts in the place of the MLP.
package enum MixtralFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "mixtral", modelTypes: ["mixtral"], architectures: ["Mixtral"], prefixes: ["model.", ""],
    anchor: "embed_tokens.weight",
    signature: ["layers.0.block_sparse_moe.gate.weight", "layers.0.input_layernorm.weight"], layers: "layers.",
    body: ["norm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    try configuration.requireExperts()
    // Noise on the router's input, in training.
    _ = try configuration.number("router_jitter_noise", allowsZero: true)
    var decoder = RotaryDecoder(inputBias: .unstated, outputBias: .unstated)
    decoder.epsilon = 1e-5
    decoder.heads = (32, 8)
    decoder.windows = { LayerWindows(all: try $0.window(usual: nil), count: $1) }
    let routing = try configuration.routing(count: ["num_local_experts"], usual: (8, 2), isNormalized: true)
    decoder.feedForward = { builder, layer in
      var experts = GraphBuilder.Experts(
        hidden: layer.mlp.hidden, inner: layer.mlp.inner, kind: layer.mlp.kind, routing: routing)
      experts.names = ("w1", "w3", "w2")
      // transformers 5 calls the module as other models do, in memory.
      let old = layer.prefix + "block_sparse_moe."
      let prefix = builder.tensors[old + "gate.weight"] == nil ? layer.prefix + "mlp." : old
      return builder.experts(prefix, layer.input, experts)
    }
    try decoder.build(&builder)
  }
}
