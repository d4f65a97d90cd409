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
    let kind = try configuration.activation("hidden_act") ?? .silu
    try configuration.refuseUnnamed(
      where: kind != .silu, "has another activation than SiLU, as Gemma has", architecture: "LlamaForCausalLM")
    try configuration.refuseUnnamed(
      where: configuration.contains("use_bias"), "has 'use_bias', as Ernie 4.5 has", architecture: "LlamaForCausalLM")
    var decoder = try RotaryDecoder(biasesOf: configuration)
    switch try configuration.text("model_type") {
    case "mistral":
      decoder = RotaryDecoder(inputBias: .unstated, outputBias: .unstated, mlpBias: .unstated)
      decoder.windows = mistralWindows
    case "qwen2":
      decoder = RotaryDecoder(inputBias: .required, outputBias: .denied)
      decoder.windows = { try $0.qwenWindows(count: $1) }
    default:
      decoder.windows = llamaWindows
    }
    try decoder.build(&builder)
  }

  /// All layers slide. With `layer_types`, which transformers ignores here and others do not, a sequence may not
  /// be longer than the window.
  @Sendable private static func mistralWindows(_ configuration: Configuration, _ count: Int) throws -> LayerWindows {
    _ = try configuration.flag("use_sliding_window")
    let window = try configuration.window()
    let types = try configuration.layerTypes(count: count)
    var windows = try configuration.windows(types ?? [], window)
    windows.windows = [Int?](repeating: window, count: count)
    if types?.contains(.full) == true { windows.contextLimit = window }
    return windows
  }

  /// A llama has no window: where one is stated, transformers ignores it and others do not, so that a sequence may
  /// not be longer.
  @Sendable private static func llamaWindows(_ configuration: Configuration, _ count: Int) throws -> LayerWindows {
    let isUsed = try configuration.flag("use_sliding_window") ?? true
    let window = isUsed ? try configuration.window(usual: nil) : nil
    _ = configuration.value("sliding_window")
    _ = try configuration.windows(configuration.layerTypes(count: count) ?? [], window)
    var windows = LayerWindows(none: count)
    windows.contextLimit = window
    return windows
  }
}
