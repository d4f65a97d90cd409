/// LLaMA (arXiv:2302.13971) and what has its graph: Mistral, Qwen2, SmolLM2.
package enum LLaMAFamily: ModelFamily {
  /// What is known of its checkpoints.
  package static let facts = FamilyFacts(
    name: "llama", modelTypes: ["llama", "mistral", "qwen2"],
    architectures: ["Llama", "Mistral", "Qwen2"], prefixes: ["model.", ""], anchor: "embed_tokens.weight",
    signature: ["layers.0.mlp.gate_proj.weight", "layers.0.input_layernorm.weight"],
    layers: "layers.", body: ["norm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    let attentionBias = try configuration.flag("attention_bias")
    let mlpBias = try configuration.flag("mlp_bias")
    let decoder: RotaryDecoder
    switch try configuration.text("model_type") {
    case "mistral": decoder = RotaryDecoder(inputBias: .denied, outputBias: .denied, window: .always)
    case "qwen2": decoder = RotaryDecoder(inputBias: .required, outputBias: .denied, window: .whereUsed)
    default:
      // Old configurations leave the flags out; the model then has no biases.
      let isStated = configuration.isPresent
      let bias = GraphBuilder.Bias(attentionBias ?? (isStated ? false : nil))
      decoder = RotaryDecoder(
        inputBias: bias, outputBias: bias, mlpBias: GraphBuilder.Bias(mlpBias ?? (isStated ? false : nil)))
    }
    try decoder.build(&builder)
  }
}
