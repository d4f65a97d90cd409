/// GPT-OSS (arXiv:2508.10925): attention with sinks, layers with a window in turns, experts with biases.
package enum GPTOSSFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "gpt_oss", modelTypes: ["gpt_oss"], architectures: ["GptOss"], prefixes: ["model.", ""],
    anchor: "embed_tokens.weight",
    signature: ["layers.0.mlp.router.weight", "layers.0.input_layernorm.weight", "layers.0.self_attn.sinks"],
    layers: "layers.", body: ["norm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    try configuration.requireExperts()
    let bias = GraphBuilder.Bias(try configuration.flag("attention_bias") ?? true)
    var decoder = RotaryDecoder(inputBias: bias, outputBias: bias)
    decoder.epsilon = 1e-5
    decoder.heads = (64, 8)
    decoder.headSize = 64
    decoder.hasSinks = true
    // The function is stated and has no say.
    guard try configuration.activation("hidden_act") ?? .silu == .silu else {
      throw configuration.refusal("'hidden_act' is not 'silu'")
    }
    decoder.windows = { configuration, count in
      let types = try configuration.layerTypes(count: count)
      return try configuration.windows(
        types ?? (0..<count).map { $0 % 2 == 0 ? .sliding : .full }, configuration.window(usual: 128))
    }
    guard try configuration.rotaryObject("rope_scaling") ?? configuration.rotaryObject("rope_parameters") != nil else {
      throw configuration.refusal("neither 'rope_scaling' nor 'rope_parameters' is there")
    }
    decoder.positions = { configuration, count, headSize in
      let members = Configuration.RotaryMembers(usualTheta: 150_000)
      return [Attention.Positions](
        repeating: .rotary(try configuration.rotary(headSize: headSize, members)), count: count)
    }
    let routing = try configuration.routing(
      count: ["num_local_experts", "num_experts"], usual: (128, 4), isNormalized: true)
    // The original's name for what transformers calls num_experts_per_tok.
    if let other = try configuration.size("experts_per_token"), other != routing.chosenCount {
      throw configuration.refusal("'experts_per_token' and 'num_experts_per_tok' differ")
    }
    let gate = ClampedGate(
      limit: Float(try configuration.number("swiglu_limit") ?? 7),
      slope: Float(try configuration.number("swiglu_alpha") ?? 1.702))
    decoder.feedForward = { builder, layer in
      builder.clampedExperts(layer.prefix + "mlp.", layer.input, layer.mlp, routing, gate)
    }
    try decoder.build(&builder)
  }
}

extension GraphBuilder {
  /// The sum of what experts give, chosen by the linear `<prefix>router`, which has a bias.
  ///
  /// Weights are stacks `[experts, in, out]`; gate and what it gates are the even and odd outputs of one linear.
  fileprivate mutating func clampedExperts(
    _ prefix: String, _ input: String, _ mlp: MLP, _ routing: Routing, _ gate: ClampedGate
  ) -> String {
    let (hidden, inner, count) = (mlp.hidden, mlp.inner, routing.expertCount)
    let scores = linear(prefix + "router", input, hidden, count, bias: .required, role: .router)
    // Without the scores' weight, which is refused when all is known, there may be any number of experts.
    guard hidden > 0, tensors.dimensions(prefix + "router.weight") == [count, hidden] else { return scores }
    let router = add(prefix + "router.choice", .routing(routing), scores)
    func stack(_ name: String, _ dimensions: [Int]) -> SourceTensor {
      required(.named("\(prefix)experts.\(name)"), [count] + dimensions)
    }
    let (wide, wideBias) = (stack("gate_up_proj", [hidden, 2 * inner]), stack("gate_up_proj_bias", [2 * inner]))
    let (down, downBias) = (stack("down_proj", [inner, hidden]), stack("down_proj_bias", [hidden]))
    let values = (0..<count).map { index in
      let expert = "\(prefix)experts.\(index)."
      let both = linear(
        expert + "gate_up_proj", input, hidden, 2 * inner, weight: .transposed(.element(of: wide, index)),
        bias: .required, biasSource: .element(of: wideBias, index), expert: (index, router))
      let parts = ["gate", "up"].enumerated().map { part, name in
        add(expert + name, .channelSlice(ChannelSlice(part: part, partCount: 2, blockSize: 1)), both)
      }
      let gated = add(expert + "gated", .clampedGate(gate), parts[0], parts[1])
      return linear(
        expert + "down_proj", gated, inner, hidden, weight: .transposed(.element(of: down, index)), bias: .required,
        biasSource: .element(of: downBias, index))
    }
    return add(prefix + "experts", .mixture(Mixture(expertCount: count)), inputs: [router] + values)
  }
}
