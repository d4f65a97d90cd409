import OTPlatform

/// Gemma 2 (arXiv:2408.00118): norms before and after attention and MLP, soft caps, and windows in every other layer.
package enum Gemma2Family: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "gemma2", modelTypes: ["gemma2"], architectures: ["Gemma2"], prefixes: ["model.", ""],
    anchor: "embed_tokens.weight",
    signature: LLaMAFamily.facts.signature + ["layers.0.pre_feedforward_layernorm.weight"], layers: "layers.",
    body: ["norm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    var decoder = try RotaryDecoder.gemma2(configuration)
    decoder.attentionCap = try configuration.cap("attn_logit_softcapping", usual: 50)
    decoder.logitCap = try configuration.cap("final_logit_softcapping", usual: 30)
    decoder.windows = { configuration, count in
      let types = try configuration.layerTypes(count: count) ?? (0..<count).map { $0 % 2 == 0 ? .sliding : .full }
      return try configuration.windows(types, configuration.window())
    }
    try decoder.build(&builder)
  }
}

extension RotaryDecoder {
  /// What Gemma 2 and 3 have.
  static func gemma2(_ configuration: Configuration) throws -> RotaryDecoder {
    var decoder = gemma(bias: try GraphBuilder.Bias(configuration, "attention_bias"))
    decoder.norms = .around
    // Configurations have an older member beside it, which nothing reads.
    decoder.activation.member = "hidden_activation"
    _ = configuration.value("hidden_act")
    decoder.attentionScale = Float(pow(try configuration.number("query_pre_attn_scalar") ?? 256, -0.5))
    return decoder
  }
}

extension Configuration {
  /// A soft cap: null is none, and where the member is absent, it is `usual`.
  func cap(_ key: String, usual: Float?) throws -> Float? {
    guard contains(key) else { return usual }
    return try number(key).map { Float($0) }
  }
}
