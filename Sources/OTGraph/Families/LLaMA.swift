/// LLaMA (arXiv:2302.13971) and what has its graph: Mistral, Qwen2, SmolLM2.
package enum LLaMAFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "llama", modelTypes: ["llama", "mistral", "qwen2"],
    architectures: ["Llama", "Mistral", "Qwen2"], prefixes: ["model.", ""], anchor: "embed_tokens.weight",
    signature: ["layers.0.mlp.gate_proj.weight", "layers.0.input_layernorm.weight"],
    layers: "layers.", body: ["norm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    let attentionBias = try GraphBuilder.Bias(configuration, "attention_bias")
    let mlpBias = try GraphBuilder.Bias(configuration, "mlp_bias")
    let decoder =
      switch try configuration.text("model_type") {
      case "mistral":
        RotaryDecoder(inputBias: .unstated, outputBias: .unstated, mlpBias: .unstated, window: .always)
      case "qwen2": RotaryDecoder(inputBias: .required, outputBias: .denied, window: .whereUsed)
      default: RotaryDecoder(inputBias: attentionBias, outputBias: attentionBias, mlpBias: mlpBias)
      }
    try decoder.build(&builder)
  }
}
