/// Qwen 1.5 and 2 with experts (arXiv:2407.10671), one of which all tokens have.
package enum Qwen2MoEFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "qwen2_moe", modelTypes: ["qwen2_moe"], architectures: ["Qwen2Moe"], prefixes: ["model.", ""],
    anchor: "embed_tokens.weight",
    signature: [
      "layers.0.mlp.gate.weight", "layers.0.input_layernorm.weight", "layers.0.mlp.shared_expert_gate.weight",
    ], layers: "layers.", body: ["norm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    try configuration.requireExperts()
    var decoder = RotaryDecoder(
      inputBias: GraphBuilder.Bias(try configuration.flag("qkv_bias") ?? true), outputBias: .denied)
    decoder.heads = (16, 16)
    decoder.windows = windows
    let experts = try RotaryDecoder.qwenExperts(configuration, count: ["num_experts"], usual: (60, 4), inner: 1408)
    let inner = try configuration.size("shared_expert_intermediate_size") ?? 5632
    decoder.feedForward = { builder, layer in
      guard let sum = try experts(&builder, layer) else { return nil }
      let mlp = GraphBuilder.MLP(hidden: layer.mlp.hidden, inner: inner, kind: layer.mlp.kind, bias: .denied)
      let shared = builder.sharedExpert(
        layer.prefix + "mlp.shared_expert", gate: layer.prefix + "mlp.shared_expert_gate", layer.input, mlp)
      return builder.add(layer.prefix + "mlp.all_experts", .add, sum, shared)
    }
    try decoder.build(&builder)
  }

  /// Layers before `max_window_layers` slide in turns, from the first on, where `use_sliding_window` is true.
  @Sendable private static func windows(_ configuration: Configuration, _ count: Int) throws -> LayerWindows {
    let isUsed = try configuration.flag("use_sliding_window") ?? false
    let window = isUsed ? try configuration.window() : nil
    _ = configuration.value("sliding_window")
    let last = try configuration.number("max_window_layers", allowsZero: true) ?? 28
    let types = try configuration.layerTypes(count: count)
    let usual = (0..<count).map { index -> Configuration.LayerType in
      isUsed && index % 2 == 0 && Double(index) < last ? .sliding : .full
    }
    return try configuration.windows(types ?? usual, window)
  }
}
