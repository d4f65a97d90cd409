/// Cohere's Command R and Aya (2024): LLaMA's decoder with attention and MLP side by side behind one LayerNorm without
/// offset, a rotation of neighbouring channels, scaled logits and, in the largest, norms of heads.
package enum CohereFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "cohere", modelTypes: ["cohere"], architectures: ["Cohere"], prefixes: ["model.", ""],
    anchor: "embed_tokens.weight", signature: LLaMAFamily.facts.signature, layers: "layers.", body: ["norm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    var decoder = try RotaryDecoder.cohere(configuration, family: facts.name)
    decoder.rotates(Configuration.RotaryMembers(usualTheta: 500_000, isInterleaved: true))
    if try configuration.flag("use_qk_norm") ?? false {
      decoder.between = { builder, linear, value, channelCount, headSize, epsilon in
        builder.headLayerNorm(
          String(linear.dropLast("proj".count)) + "norm", value, headSize: headSize,
          headCount: channelCount / max(headSize, 1), epsilon: epsilon, ownGains: true)
      }
    }
    try decoder.build(&builder)
  }
}

/// Cohere's Command R7B and Command A (arXiv:2504.00698): the same with windows in most layers, and no positions in the
/// others.
package enum Cohere2Family: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "cohere2", modelTypes: ["cohere2"], architectures: ["Cohere2"], prefixes: ["model.", ""],
    anchor: "embed_tokens.weight", signature: LLaMAFamily.facts.signature, layers: "layers.", body: ["norm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    var decoder = try RotaryDecoder.cohere(configuration, family: facts.name)
    // What published configurations have beside what transformers reads.
    try configuration.expect("rotary_pct", .number(1), .integer(1))
    try configuration.expect("position_embedding_type", .string("rope_gptj"))
    for member in ["use_parallel_block", "use_gated_activation"] { try configuration.expect(member, .bool(true)) }
    try configuration.expect("use_parallel_embedding", .bool(false))
    decoder.windows = { configuration, count in
      try configuration.windows(configuration.cohereTypes(count: count), configuration.window())
    }
    decoder.positions = { configuration, count, headSize in
      let members = Configuration.RotaryMembers(isInterleaved: true)
      let rotary = try configuration.rotary(headSize: headSize, members)
      return try configuration.cohereTypes(count: count).map { $0 == .sliding ? .rotary(rotary) : .none }
    }
    try decoder.build(&builder)
  }
}

extension RotaryDecoder {
  /// What both have.
  fileprivate static func cohere(_ configuration: Configuration, family: String) throws -> RotaryDecoder {
    try configuration.require(family: family)
    let bias = GraphBuilder.Bias(try configuration.flag("attention_bias") ?? false)
    var decoder = RotaryDecoder(inputBias: bias, outputBias: bias, mlpBias: .unstated)
    decoder.norms = .shared
    decoder.normKind = .layer(.unstated)
    (decoder.epsilon, decoder.epsilonMember) = (1e-5, "layer_norm_eps")
    decoder.logitScale = Float(try configuration.number("logit_scale") ?? 0.0625)
    decoder.contextLength = 8192
    decoder.isTied = true
    return decoder
  }
}

extension Configuration {
  fileprivate func cohereTypes(count: Int) throws -> [LayerType] {
    let pattern = try size("sliding_window_pattern") ?? 4
    _ = value("_sliding_window_pattern")
    return try layerTypes(count: count) ?? (0..<count).map { ($0 + 1) % pattern == 0 ? .full : .sliding }
  }
}
