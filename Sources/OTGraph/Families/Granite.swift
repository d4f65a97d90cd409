/// Granite 3 (IBM, 2024): LLaMA's decoder with constant factors of embeddings, branches, attention and logits.
package enum GraniteFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "granite", modelTypes: ["granite"], architectures: ["Granite"], prefixes: ["model.", ""],
    anchor: "embed_tokens.weight", signature: LLaMAFamily.facts.signature, layers: "layers.", body: ["norm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    try RotaryDecoder.granite(builder.configuration).build(&builder)
  }
}

extension RotaryDecoder {
  /// What Granite 3 and 4 have.
  static func granite(_ configuration: Configuration) throws -> RotaryDecoder {
    var decoder = try RotaryDecoder(biasesOf: configuration)
    func factor(_ key: String) throws -> Double { try configuration.number(key) ?? 1 }
    let embedding = Float(try factor("embedding_multiplier"))
    decoder.embeddingScale = { _ in embedding }
    decoder.residualScale = Float(try factor("residual_multiplier"))
    decoder.attentionScale = Float(try factor("attention_multiplier"))
    decoder.logitScale = Float(1 / (try factor("logits_scaling")))
    return decoder
  }
}
