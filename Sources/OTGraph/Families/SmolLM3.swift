/// SmolLM3 (Hugging Face, 2025): LLaMA's decoder, in which every fourth layer has no positions.
package enum SmolLM3Family: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "smollm3", modelTypes: ["smollm3"], architectures: ["SmolLM3"], prefixes: ["model.", ""],
    anchor: "embed_tokens.weight", signature: LLaMAFamily.facts.signature, layers: "layers.", body: ["norm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    var decoder = try RotaryDecoder(biasesOf: configuration)
    decoder.isTied = true
    decoder.windows = { configuration, count in
      let isUsed = try configuration.flag("use_sliding_window") ?? false
      let window = isUsed ? try configuration.window(usual: nil) : nil
      let isRotated = try configuration.rotatedLayers(count: count)
      _ = configuration.value("sliding_window")
      let types =
        try configuration.layerTypes(count: count) ?? isRotated.map { window != nil && !$0 ? .sliding : .full }
      return try configuration.windows(types, window)
    }
    decoder.positions = { configuration, count, headSize in
      let rotary = try configuration.rotary(headSize: headSize, Configuration.RotaryMembers(usualTheta: 2_000_000))
      return try configuration.rotatedLayers(count: count).map { $0 ? .rotary(rotary) : .none }
    }
    try decoder.build(&builder)
  }
}

extension Configuration {
  /// Of each layer, whether queries and keys are rotated: 1 in `no_rope_layers`, or all but every
  /// `no_rope_layer_interval`-th.
  fileprivate func rotatedLayers(count: Int) throws -> [Bool] {
    let interval = try size("no_rope_layer_interval") ?? 4
    guard let stated = value("no_rope_layers") else {
      return (1...max(1, count)).prefix(count).map { $0 % interval != 0 }
    }
    let flags = stated.array?.compactMap(\.integer) ?? []
    guard flags.count == stated.array?.count, flags.count >= count, flags.allSatisfy({ $0 == 0 || $0 == 1 }) else {
      throw refusal("'no_rope_layers' is no list of 0 and 1 for each layer")
    }
    return flags.prefix(count).map { $0 == 1 }
  }
}
