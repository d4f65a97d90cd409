/// StarCoder 2 (arXiv:2402.19173): LLaMA's attention with biases and windows, LayerNorm, a plain MLP.
package enum StarCoder2Family: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "starcoder2", modelTypes: ["starcoder2"], architectures: ["Starcoder2"], prefixes: ["model.", ""],
    anchor: "embed_tokens.weight", signature: ["layers.0.mlp.c_fc.weight", "layers.0.input_layernorm.bias"],
    layers: "layers.", body: ["norm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    try configuration.require(family: facts.name)
    try configuration.expect("norm_type", .string("layer_norm"))
    try configuration.expect("mlp_type", .string("default"))
    _ = try configuration.flag("scale_attention_softmax_in_fp32")
    // Written twice, of which transformers reads the first.
    let kind = try configuration.activation("hidden_act") ?? .geluTanh
    guard try configuration.activation("activation_function") ?? kind == kind else {
      throw configuration.refusal("'hidden_act' and 'activation_function' contradict each other")
    }
    try configuration.expectSame(as: "norm_epsilon", usual: 1e-5, "layer_norm_epsilon")
    let bias = GraphBuilder.Bias(try configuration.flag("use_bias") ?? true)
    var decoder = RotaryDecoder(inputBias: bias, outputBias: bias, mlpBias: bias)
    decoder.normKind = .layer(.required)
    (decoder.epsilon, decoder.epsilonMember) = (1e-5, "norm_epsilon")
    decoder.mlp = .plain("mlp.c_fc", "mlp.c_proj")
    decoder.activation.usual = .geluTanh
    decoder.heads = (24, 2)
    decoder.contextLength = 4096
    decoder.isTied = true
    decoder.windows = { LayerWindows(all: try $0.window(usual: nil), count: $1) }
    try decoder.build(&builder)
  }
}
