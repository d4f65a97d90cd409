/// Gemma (arXiv:2403.08295): LLaMA's decoder with gains of 1 + γ, embeddings times the root of their channels, heads
/// of a size of their own, and GELU as the gate.
package enum GemmaFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "gemma", modelTypes: ["gemma"], architectures: ["Gemma"], prefixes: ["model.", ""],
    anchor: "embed_tokens.weight", signature: LLaMAFamily.facts.signature, layers: "layers.", body: ["norm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    var decoder = RotaryDecoder.gemma(bias: try GraphBuilder.Bias(configuration, "attention_bias"))
    // "gelu" in the published configurations means the approximation, as transformers reads it.
    let isLoose = try configuration.text("hidden_act") == "gelu"
    let kind = isLoose ? .geluTanh : try configuration.activation("hidden_act") ?? .geluTanh
    if let other = try configuration.activation("hidden_activation"), other != kind {
      throw configuration.refusal("'hidden_act' and 'hidden_activation' contradict each other")
    }
    decoder.activation = (nil, kind)
    try decoder.build(&builder)
  }
}

extension RotaryDecoder {
  /// What all Gemmas have.
  static func gemma(bias: GraphBuilder.Bias) -> RotaryDecoder {
    var decoder = RotaryDecoder(inputBias: bias, outputBias: bias)
    decoder.gainOffset = 1
    decoder.activation.usual = .geluTanh
    decoder.headSize = 256
    decoder.isTied = true
    decoder.embeddingScale = { Float(Double($0).squareRoot()) }
    return decoder
  }
}
