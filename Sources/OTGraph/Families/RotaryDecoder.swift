import OTFoundation

/// The decoder of LLaMA, with what differs among its kin.
///
/// RMSNorm before attention and MLP, rotary positions, key/value heads shared by groups of query heads,
/// gated MLP. A sliding attention window is not an operation of this graph: it limits `Graph.contextLength`,
/// within which it makes no difference.
struct RotaryDecoder {
  /// Biases of queries, keys and values.
  var inputBias: GraphBuilder.Bias
  /// Biases of attention's output.
  var outputBias: GraphBuilder.Bias
  /// Biases of the MLP.
  var mlpBias = GraphBuilder.Bias.denied
  /// The way in which a configuration states a sliding window.
  var window = Configuration.SlidingWindow.whereStated
  /// Operations on queries and keys before the attention scores.
  var between: Between?

  /// Given a builder, the name of a linear, its value, the channels of that, a head's channels and the
  /// norms' ε, adds nodes and gives the last one's name. A head's channels are 0 where they are unknown.
  typealias Between = @Sendable (inout GraphBuilder, String, String, Int, Int, Float) -> String

  /// Adds the nodes and outputs.
  func build(_ builder: inout GraphBuilder) throws {
    let (configuration, tensors, prefix) = (builder.configuration, builder.tensors, builder.prefix)
    let table = prefix + "embed_tokens.weight"
    let found = try tensors.matrix(table)
    let vocabulary = try configuration.size("vocab_size") ?? found.rows
    let hidden = try configuration.size("hidden_size") ?? found.columns
    let layer0 = prefix + "layers.0."
    let inner =
      try configuration.size("intermediate_size") ?? tensors.matrix(layer0 + "mlp.gate_proj.weight").rows
    let epsilon = try configuration.epsilon("rms_norm_eps") ?? 1e-6
    let kind = try configuration.activation("hidden_act") ?? .silu
    try configuration.refuseUnnamed(
      where: kind != .silu, "has another activation than SiLU, as Gemma has", architecture: "LlamaForCausalLM")
    try configuration.refuseUnnamed(
      where: configuration.contains("use_bias"), "has 'use_bias', as Ernie 4.5 has", architecture: "LlamaForCausalLM")
    let mlp = GraphBuilder.MLP(hidden: hidden, inner: inner, kind: kind, bias: mlpBias)
    let attention = try attention(builder, hidden: hidden, layer0: layer0)
    let (heads, groups, headSize) = (attention.headCount, attention.keyValueHeadCount, attention.headSize)
    var block = GraphBuilder.AttentionBlock(
      attention, hidden: hidden,
      querySize: try heads > 0 ? heads * headSize : tensors.matrix(layer0 + "self_attn.q_proj.weight").rows,
      keyValueSize: try heads > 0 ? groups * headSize : tensors.matrix(layer0 + "self_attn.v_proj.weight").rows)
    block.inputBias = inputBias
    block.outputBias = outputBias
    block.between = between.map { between in { between(&$0, $1, $2, $3, headSize, epsilon) } }

    func norm(_ name: String, _ input: String) -> String {
      builder.rmsNorm(name, input, size: hidden, epsilon: epsilon)
    }
    let tokens = builder.add("token_ids", .tokenIDs)
    var value = builder.embedding(prefix + "embed_tokens", tokens, rowCount: vocabulary, size: hidden)
    let configured = try configuration.size("num_hidden_layers")
    for index in try builder.countLayers(prefix + "layers.", configured: configured) {
      let layer = prefix + "layers.\(index)."
      let names = ["q", "k", "v", "o"].map { "\(layer)self_attn.\($0)_proj" }
      let attended = builder.attention(
        layer + "self_attn", norm(layer + "input_layernorm", value), block,
        linears: (names[0], names[1], names[2], names[3]))
      value = builder.add(layer + "attention_sum", .add, value, attended)
      let gated = builder.gatedMLP(layer + "mlp.", norm(layer + "post_attention_layernorm", value), mlp)
      value = builder.add(layer + "mlp_sum", .add, value, gated)
    }
    value = norm(prefix + "norm", value)
    builder.outputs = ["hidden": value]
    let isTied = try configuration.flag("tie_word_embeddings") ?? !configuration.isPresent
    if try hasHead(builder, isTied: isTied) {
      let logits = builder.head(
        "lm_head", value, hidden, vocabulary, table: .named(table), isTied: isTied, bias: .denied)
      builder.outputs = ["logits": logits]
    }
    builder.vocabularySize = vocabulary
    builder.contextLength = try configuration.contextLength(window, layerCount: builder.layerCount)
    if heads == 0 { builder.missing.append("num_attention_heads") }
    if !configuration.isPresent { builder.missing += ["rms_norm_eps", "rope_theta"] }
  }

  private func attention(_ builder: GraphBuilder, hidden: Int, layer0: String) throws -> Attention {
    let configuration = builder.configuration
    guard let heads = try configuration.size("num_attention_heads") else {
      return Attention(
        headCount: 0, keyValueHeadCount: 0, headSize: 0, isCausal: true,
        positions: .rotary(Rotary(theta: 10000, dimensions: 0)))
    }
    let headSize = try configuration.size("head_dim") ?? configuration.quotient(hidden, heads, "heads")
    let valueRows = builder.tensors.dimensions(layer0 + "self_attn.v_proj.weight")?.first ?? 0
    let groups =
      try configuration.size("num_key_value_heads")
      ?? (valueRows > 0 && valueRows % headSize == 0 ? valueRows / headSize : heads)
    return Attention(
      headCount: heads, keyValueHeadCount: groups, headSize: headSize, isCausal: true,
      positions: .rotary(try configuration.rotary(headSize: headSize)))
  }

  /// True when the model ends in an output head: it has the weight, or ties it, or is said to be a causal
  /// language model.
  private func hasHead(_ builder: GraphBuilder, isTied: Bool) throws -> Bool {
    let configuration = builder.configuration
    if builder.tensors["lm_head.weight"] != nil || isTied { return true }
    guard let architecture = configuration.value("architectures")?.array?.first?.string else { return true }
    return architecture.hasSuffix("ForCausalLM")
  }
}
