import OTFoundation
import OTJSON

/// LLaMA (arXiv:2302.13971) and what has its graph: Mistral, Qwen2, SmolLM2.
///
/// RMSNorm before attention and MLP, rotary positions, key/value heads shared
/// by groups of query heads, gated MLP; biases where the checkpoint has them.
/// A sliding attention window is no operation of this graph: it limits
/// `Graph.contextLength`, within which it makes no difference.
package enum LLaMAFamily: ModelFamily {
  /// The family's name.
  package static let name = "llama"
  /// Values of `model_type` in config.json.
  package static let modelTypes = ["llama", "mistral", "qwen2"]

  private static let prefixes = ["model.", ""]

  /// Whether a checkpoint without configuration has this family's names.
  package static func recognizes(tensorNames: Set<String>) -> Bool {
    prefixes.contains { prefix in
      let has = { tensorNames.contains(prefix + $0) }
      // Models with these additions have the other names, but another graph.
      let others = ["self_attn.q_norm.weight", "pre_feedforward_layernorm.weight"]
      return has("embed_tokens.weight") && has("layers.0.mlp.gate_proj.weight")
        && has("layers.0.input_layernorm.weight")
        && !others.contains { has("layers.0." + $0) }
    }
  }

  /// The model as a graph.
  package static func graph(configuration: JSONValue?, tensors: TensorCatalog) throws -> Graph {
    let configuration = try Configuration(configuration, file: tensors.file)
    let prefix = tensors.prefix(of: prefixes, with: "embed_tokens.weight")
    let table = prefix + "embed_tokens.weight"
    let found = try tensors.matrix(table)
    let vocabulary = try configuration.size("vocab_size") ?? found.rows
    let hidden = try configuration.size("hidden_size") ?? found.columns
    let layer0 = prefix + "layers.0."
    let inner =
      try configuration.size("intermediate_size")
      ?? tensors.matrix(layer0 + "mlp.gate_proj.weight").rows
    let epsilon = try configuration.epsilon("rms_norm_eps") ?? 1e-6
    let kind = try configuration.activation("hidden_act") ?? .silu
    let isQwen = try configuration.text("model_type") == "qwen2"
    let needsBias = try configuration.flag("attention_bias") ?? false
    let needsMLPBias = try configuration.flag("mlp_bias") ?? false
    var missing = try configuration.unsupportedRotaryScaling()
    let attention = try attention(configuration, hidden: hidden, tensors: tensors, layer0: layer0)
    let querySize =
      try attention.hasKnownHeads
      ? attention.headCount * attention.headSize
      : tensors.matrix(layer0 + "self_attn.q_proj.weight").rows
    let valueSize =
      try attention.hasKnownHeads
      ? attention.keyValueHeadCount * attention.headSize
      : tensors.matrix(layer0 + "self_attn.v_proj.weight").rows

    var builder = GraphBuilder(tensors)
    func norm(_ name: String, _ input: String) -> String {
      builder.rmsNorm(name, input, size: hidden, epsilon: epsilon)
    }
    let tokens = builder.add("token_ids", .tokenIDs)
    var value = builder.embedding(
      prefix + "embed_tokens", tokens, rowCount: vocabulary, size: hidden)

    let configured = try configuration.size("num_hidden_layers")
    for index in 0..<(try tensors.layerCount(prefix: prefix + "layers.", configured: configured)) {
      let layer = prefix + "layers.\(index)."
      let block = layer + "self_attn."
      var normed = norm(layer + "input_layernorm", value)
      let queries = builder.linear(
        block + "q_proj", normed, hidden, querySize, needsBias: needsBias || isQwen)
      let keys = builder.linear(
        block + "k_proj", normed, hidden, valueSize, needsBias: needsBias || isQwen)
      let values = builder.linear(
        block + "v_proj", normed, hidden, valueSize, needsBias: needsBias || isQwen)
      let mixed = builder.add(layer + "self_attn", .attention(attention), queries, keys, values)
      let attended = builder.linear(
        block + "o_proj", mixed, querySize, hidden, needsBias: needsBias)
      value = builder.add(layer + "attention_sum", .add, value, attended)

      let mlp = layer + "mlp."
      normed = norm(layer + "post_attention_layernorm", value)
      let gate = builder.linear(mlp + "gate_proj", normed, hidden, inner, needsBias: needsMLPBias)
      let up = builder.linear(mlp + "up_proj", normed, hidden, inner, needsBias: needsMLPBias)
      let active = builder.add(mlp + "act_fn", .activation(kind), gate)
      let gated = builder.add(mlp + "gated", .multiply, active, up)
      let down = builder.linear(mlp + "down_proj", gated, inner, hidden, needsBias: needsMLPBias)
      value = builder.add(layer + "mlp_sum", .add, value, down)
    }
    value = norm(prefix + "norm", value)
    var outputs = ["hidden": value]
    if try hasHead(configuration, tensors) {
      let isTied = try configuration.flag("tie_word_embeddings") ?? !configuration.isPresent
      let weight = isTied ? table : "lm_head.weight"
      outputs = [
        "logits": builder.head("lm_head", value, hidden, vocabulary, table: .named(weight))
      ]
    }
    try builder.checkTensors()
    if !attention.hasKnownHeads { missing.append("num_attention_heads") }
    if !configuration.isPresent { missing += ["rms_norm_eps", "rope_theta"] }
    return try Graph(
      family: name, nodes: builder.nodes, outputs: outputs, vocabularySize: vocabulary,
      contextLength: configuration.contextLength(), missing: missing, file: tensors.file)
  }

  private static func attention(
    _ configuration: Configuration, hidden: Int, tensors: TensorCatalog, layer0: String
  ) throws -> Attention {
    guard let heads = try configuration.size("num_attention_heads") else {
      return Attention(
        headCount: 0, keyValueHeadCount: 0, headSize: 0, isCausal: true,
        positions: .rotary(Rotary(theta: 10000, dimensions: 0)))
    }
    let headSize =
      try configuration.size("head_dim") ?? configuration.quotient(hidden, heads, "heads")
    let valueRows = tensors.dimensions(layer0 + "self_attn.v_proj.weight")?.first ?? 0
    let groups =
      try configuration.size("num_key_value_heads")
      ?? (valueRows > 0 && valueRows % headSize == 0 ? valueRows / headSize : heads)
    let rotary = try configuration.rotary(headSize: headSize)
    return Attention(
      headCount: heads, keyValueHeadCount: groups, headSize: headSize, isCausal: true,
      positions: .rotary(rotary))
  }

  /// Whether the model ends in an output head: it has the weight, or ties it,
  /// or is said to be a causal language model.
  private static func hasHead(
    _ configuration: Configuration, _ tensors: TensorCatalog
  ) throws -> Bool {
    if tensors["lm_head.weight"] != nil || !configuration.isPresent { return true }
    if let tied = try configuration.flag("tie_word_embeddings"), tied { return true }
    guard let architecture = configuration.value("architectures")?.array?.first?.string else {
      return true
    }
    return architecture.hasSuffix("ForCausalLM")
  }
}

extension Configuration {
  /// `rope_parameters`, or the older `rope_scaling`.
  private var rotaryParameters: JSONValue? { value("rope_parameters") ?? value("rope_scaling") }

  private var rotaryKind: String {
    let parameters = rotaryParameters
    return parameters?["rope_type"]?.string ?? parameters?["type"]?.string ?? "default"
  }

  /// The kind of scaling, where it is one that cannot be executed.
  fileprivate func unsupportedRotaryScaling() throws -> [String] {
    if let parameters = rotaryParameters, parameters.object == nil {
      throw refusal("the rotary parameters are not an object")
    }
    return ["default", "linear", "llama3"].contains(rotaryKind)
      ? [] : ["rope_scaling of type '\(rotaryKind)' is not supported"]
  }

  fileprivate func rotary(headSize: Int) throws -> Rotary {
    let parameters = rotaryParameters
    let theta =
      try parameters.flatMap { try number("rope_theta", in: $0) } ?? number("rope_theta")
      ?? 10000
    let fraction =
      try parameters.flatMap { try number("partial_rotary_factor", in: $0) }
      ?? number("partial_rotary_factor") ?? 1
    guard fraction <= 1 else { throw refusal("'partial_rotary_factor' is above 1") }
    return Rotary(
      theta: theta, dimensions: Int(Double(headSize) * fraction),
      scaling: try scaling(parameters))
  }

  private func scaling(_ parameters: JSONValue?) throws -> Rotary.Scaling {
    func required(_ key: String) throws -> Double {
      guard let number = try number(key, in: parameters) else {
        throw refusal("the rotary scaling lacks '\(key)'")
      }
      return number
    }
    switch rotaryKind {
    case "linear": return .linear(factor: try required("factor"))
    case "llama3":
      guard
        let length = Int(exactly: try required("original_max_position_embeddings"))
      else { throw refusal("'original_max_position_embeddings' is no integer") }
      return .llama3(
        factor: try required("factor"), low: try required("low_freq_factor"),
        high: try required("high_freq_factor"), contextLength: length)
    default: return .none
    }
  }

  /// The most tokens for which positions are known and no sliding window hides any.
  fileprivate func contextLength() throws -> Int? {
    let limit = try size("max_position_embeddings")
    let slides: Bool
    switch try text("model_type") {
    case "mistral": slides = true
    case "qwen2": slides = try flag("use_sliding_window") ?? false
    default: slides = false
    }
    // Both families' own default is 4096; Mistral writes null for no window.
    let isUnlimited = contains("sliding_window") && value("sliding_window") == nil
    guard slides, !isUnlimited else { return limit }
    let window = try size("sliding_window") ?? 4096
    return min(limit ?? window, window)
  }
}
