import OTJSON
import OTPlatform

/// DeepSeek V2 (arXiv:2405.04434): multi-head latent attention, experts of groups, shared experts.
package enum DeepSeekV2Family: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "deepseek_v2", modelTypes: ["deepseek_v2"], architectures: ["DeepseekV2"], prefixes: ["model.", ""],
    anchor: "embed_tokens.weight", signature: DeepSeek.signature, layers: "layers.", body: ["norm"],
    publishedCode: DeepSeek.code("DeepseekV2"))

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    try configuration.expect("scoring_func", .string("softmax"))
    // transformers ignores it, the model's own code divides by the sum, and leaves out the factor.
    guard try configuration.flag("norm_topk_prob") != true else {
      throw configuration.refusal("'norm_topk_prob' is not supported: implementations read it differently")
    }
    var groups: Routing.Groups?
    switch try configuration.text("topk_method") ?? "greedy" {
    case "greedy": break
    case "group_limited_greedy": groups = try DeepSeek.groups(configuration, usual: nil, rankedCount: 1)
    case let method: throw configuration.refusal("the choice of experts '\(method)' is not supported")
    }
    let usual = DeepSeek.Usual(
      experts: 64, chosen: 8, inner: 1407, sharedCount: 2, dense: 0, factor: 1, queryRank: 1536)
    let routing = try DeepSeek.routing(configuration, usual, .softmax, isNormalized: false, groups: groups)
    try DeepSeek.decoder(
      configuration, usual, routing, isInterleaved: true, mlpBias: configuration.flag("mlp_bias") ?? false
    ).build(&builder)
  }
}

/// DeepSeek V3 and R1 (arXiv:2412.19437): V2 with experts that are chosen by sigmoids and a bias.
package enum DeepSeekV3Family: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "deepseek_v3", modelTypes: ["deepseek_v3"], architectures: ["DeepseekV3"], prefixes: ["model.", ""],
    anchor: "embed_tokens.weight", signature: DeepSeek.signature, layers: "layers.", body: ["norm"],
    publishedCode: DeepSeek.code("DeepseekV3"))

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    try configuration.expect("scoring_func", .string("sigmoid"))
    try configuration.expect("topk_method", .string("noaux_tc"))
    let usual = DeepSeek.Usual(
      experts: 256, chosen: 8, inner: 2048, sharedCount: 1, dense: 3, factor: 2.5, queryRank: 1536)
    let routing = try DeepSeek.routing(
      configuration, usual, .sigmoid, isNormalized: configuration.flag("norm_topk_prob") ?? true,
      groups: DeepSeek.groups(configuration, usual: (8, 4), rankedCount: 2))
    try DeepSeek.decoder(
      configuration, usual, routing, isInterleaved: configuration.flag("rope_interleave") ?? true, mlpBias: false,
      choiceBias: "e_score_correction_bias"
    ).build(&builder)
  }
}

/// What DeepSeek V2 and V3 have in common.
private enum DeepSeek {
  static let signature = [
    "layers.0.self_attn.kv_a_proj_with_mqa.weight", "layers.0.self_attn.kv_b_proj.weight",
    "layers.0.input_layernorm.weight",
  ]

  /// The names of the model's first code, with which checkpoints are published.
  static func code(_ name: String) -> [String] {
    ["configuration_deepseek.\(name)Config", "modeling_deepseek.\(name)ForCausalLM", "modeling_deepseek.\(name)Model"]
  }

  /// What configurations mean that do not say it.
  struct Usual {
    /// Experts, those of a token, and channels within one.
    let experts, chosen, inner: Int
    /// Experts that all tokens have.
    let sharedCount: Int
    /// Layers at the beginning without experts.
    let dense: Int
    /// The factor of the experts' weights.
    let factor: Double
    /// Channels of what queries are made from.
    let queryRank: Int
  }

  /// The groups of experts; nil where all of them are chosen.
  static func groups(
    _ configuration: Configuration, usual: (count: Int, chosen: Int)?, rankedCount: Int
  ) throws -> Routing.Groups? {
    guard let count = try configuration.size("n_group") ?? usual?.count,
      let chosen = try configuration.size("topk_group") ?? usual?.chosen
    else { throw configuration.refusal("'n_group' or 'topk_group' is missing") }
    guard chosen <= count else { throw configuration.refusal("'topk_group' is above 'n_group'") }
    return chosen == count ? nil : Routing.Groups(count: count, chosenCount: chosen, rankedCount: rankedCount)
  }

  /// The choice of experts.
  static func routing(
    _ configuration: Configuration, _ usual: Usual, _ function: Routing.Function, isNormalized: Bool,
    groups: Routing.Groups?
  ) throws -> Routing {
    try configuration.requireExperts()
    let plain = try configuration.routing(
      count: ["n_routed_experts", "num_experts", "num_local_experts"], usual: (usual.experts, usual.chosen),
      isNormalized: isNormalized)
    _ = (configuration.value("n_group"), configuration.value("topk_group"))
    return Routing(
      expertCount: plain.expertCount, chosenCount: plain.chosenCount, function: function, isNormalized: isNormalized,
      groups: groups, factor: Float(try configuration.number("routed_scaling_factor") ?? usual.factor))
  }

  /// The decoder: LLaMA's but for attention and experts.
  static func decoder(
    _ configuration: Configuration, _ usual: Usual, _ routing: Routing, isInterleaved: Bool, mlpBias: Bool,
    choiceBias: String? = nil
  ) throws -> RotaryDecoder {
    let bias = GraphBuilder.Bias(try configuration.flag("attention_bias") ?? false)
    let latent = try LatentAttention(configuration, usual, bias: bias)
    try configuration.expect("moe_layer_freq", .integer(1))
    let heads = try configuration.size("num_attention_heads")
    guard try configuration.size("num_key_value_heads") ?? heads == heads else {
      throw configuration.refusal("'num_key_value_heads' is not 'num_attention_heads'")
    }
    var decoder = RotaryDecoder(inputBias: bias, outputBias: bias, mlpBias: GraphBuilder.Bias(mlpBias))
    decoder.headSize = latent.headSize
    // transformers writes the size of the rotated part there.
    decoder.headSizeMember = nil
    _ = (configuration.value("head_dim"), configuration.value("qk_head_dim"))
    decoder.valueSize = latent.value
    decoder.attentionScale = try latent.scale(configuration)
    decoder.attentionPart = { $0.latentAttention($1, $2, latent) }
    decoder.positions = { configuration, count, _ in
      let members = Configuration.RotaryMembers(isInterleaved: isInterleaved)
      return [Attention.Positions](
        repeating: .rotary(try configuration.rotary(headSize: latent.rotary, members)), count: count)
    }
    let dense = try configuration.number("first_k_dense_replace", allowsZero: true) ?? Double(usual.dense)
    let inner = try configuration.size("moe_intermediate_size") ?? usual.inner
    let shared =
      configuration.contains("n_shared_experts") ? try configuration.size("n_shared_experts") : usual.sharedCount
    guard max(inner, shared ?? 0) <= 1 << 24 else { throw configuration.refusal("a size of experts is above 2^24") }
    // Tensors of layers behind the last, which predict further tokens.
    _ = configuration.value("num_nextn_predict_layers")
    decoder.feedForward = { builder, layer in
      guard Double(layer.index) >= dense else { return nil }
      let experts = GraphBuilder.Experts(
        hidden: layer.mlp.hidden, inner: inner, kind: layer.mlp.kind, routing: routing, choiceBias: choiceBias)
      let prefix = layer.prefix + "mlp."
      let sum = builder.experts(prefix, layer.input, experts)
      guard let shared else { return sum }
      let mlp = GraphBuilder.MLP(
        hidden: layer.mlp.hidden, inner: inner * shared, kind: layer.mlp.kind, bias: layer.mlp.bias)
      return builder.add(
        prefix + "all_experts", .add, sum, builder.gatedMLP(prefix + "shared_experts.", layer.input, mlp))
    }
    return decoder
  }
}

/// The sizes of multi-head latent attention: queries may be, keys and values are made from few channels, but for a part
/// of the keys that has the positions and that all heads share.
private struct LatentAttention {
  /// Channels of what queries are made from; nil: the residual stream.
  let queryRank: Int?
  /// Channels of what keys and values are made from.
  let rank: Int
  /// Channels of a head of queries and keys without positions, of one with these, and of a head of values.
  let plain, rotary, value: Int
  /// Of the linears that read the residual stream, and of the output.
  let bias: GraphBuilder.Bias

  /// Channels of a head of queries and keys.
  var headSize: Int { plain + rotary }

  init(_ configuration: Configuration, _ usual: DeepSeek.Usual, bias: GraphBuilder.Bias) throws {
    queryRank =
      configuration.contains("q_lora_rank") ? try configuration.size("q_lora_rank") : usual.queryRank
    rank = try configuration.size("kv_lora_rank") ?? 512
    plain = try configuration.size("qk_nope_head_dim") ?? 128
    rotary = try configuration.size("qk_rope_head_dim") ?? 64
    value = try configuration.size("v_head_dim") ?? 128
    self.bias = bias
    // Products of two sizes and a sum of sizes are to fit in an Int.
    guard [rank, plain, rotary, value].allSatisfy({ $0 <= 1 << 24 }) else {
      throw configuration.refusal("a size of a head is above 2^24")
    }
  }

  /// The factor of the products: `1/√headSize`, and where YaRN states `mscale_all_dim`, the square of its magnitude.
  func scale(_ configuration: Configuration) throws -> Float {
    let plain = 1 / Double(headSize).squareRoot()
    let parameters = try configuration.rotaryObject("rope_scaling") ?? configuration.rotaryObject("rope_parameters")
    guard let parameters, parameters["rope_type"]?.string ?? parameters["type"]?.string ?? "default" != "default",
      let weight = try configuration.number("mscale_all_dim", in: parameters, allowsZero: true), weight > 0
    else { return Float(plain) }
    guard let factor = try configuration.number("factor", in: parameters) else {
      throw configuration.refusal("the rotary scaling lacks 'factor'")
    }
    let magnitude = factor <= 1 ? 1 : 0.1 * weight * log(factor) + 1
    return Float(plain * magnitude * magnitude)
  }
}

extension GraphBuilder {
  /// Attention of a layer with its linears. The rotated channels of a head come first.
  fileprivate mutating func latentAttention(
    _ layer: RotaryDecoder.Layer, _ attention: Attention, _ latent: LatentAttention
  ) -> String {
    let (prefix, input, hidden, heads) = (
      layer.prefix + "self_attn.", layer.input, layer.mlp.hidden, attention.headCount
    )
    let (plain, rotary) = (latent.plain, latent.rotary)
    var queries: String
    if let rank = latent.queryRank {
      queries = linear(prefix + "q_a_proj", input, hidden, rank, bias: latent.bias)
      queries = rmsNorm(prefix + "q_a_layernorm", queries, size: rank, epsilon: 1e-6)
      queries = linear(prefix + "q_b_proj", queries, rank, heads * latent.headSize, bias: .denied)
    } else {
      queries = linear(prefix + "q_proj", input, hidden, heads * latent.headSize, bias: .denied)
    }
    let queryParts = headParts(queries, [plain, rotary], names: [prefix + "query", prefix + "rotary_query"])
    queries = add(
      prefix + "queries", .headConcatenation(HeadConcatenation(headCount: heads, sizes: [rotary, plain])),
      queryParts[1], queryParts[0])

    let name = prefix + "kv_a_proj_with_mqa"
    let weights = parts(of: "\(name).weight", [latent.rank, rotary], columnCount: hidden)
    let bias = SourceTensor.named("\(name).bias")
    var compressed = linear(
      name + ".latent", input, hidden, latent.rank, weight: weights[0], bias: latent.bias,
      biasSource: .rows(of: bias, 0..<latent.rank))
    let rotaryKey = linear(
      name + ".rotary", input, hidden, rotary, weight: weights[1], bias: latent.bias,
      biasSource: .rows(of: bias, latent.rank..<latent.rank + rotary))
    compressed = rmsNorm(prefix + "kv_a_layernorm", compressed, size: latent.rank, epsilon: 1e-6)
    let both = linear(prefix + "kv_b_proj", compressed, latent.rank, heads * (plain + latent.value), bias: .denied)
    let keyParts = headParts(both, [plain, latent.value], names: [prefix + "key", prefix + "value"])
    let keys = add(
      prefix + "keys", .headConcatenation(HeadConcatenation(headCount: heads, sizes: [rotary, plain])),
      rotaryKey, keyParts[0])
    let mixed = add(layer.prefix + "self_attn", .attention(attention), queries, keys, keyParts[1])
    return linear(prefix + "o_proj", mixed, heads * latent.value, hidden, bias: latent.bias)
  }

  /// Slices of a value whose heads have two parts of these sizes.
  private mutating func headParts(_ value: String, _ sizes: [Int], names: [String]) -> [String] {
    var (unit, rest) = (sizes[0], sizes[1])
    while rest != 0 { (unit, rest) = (rest, unit % rest) }
    let widths = sizes.map { $0 / unit }
    return [0, 1].map { index in
      let slice = ChannelSlice(
        part: index == 0 ? 0 : widths[0], partCount: widths[0] + widths[1], blockSize: unit, width: widths[index])
      return add(names[index], .channelSlice(slice), value)
    }
  }
}
