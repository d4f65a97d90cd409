import OTFoundation

/// The decoder of LLaMA, with what differs among its kin.
///
/// RMSNorm, rotary positions, key/value heads shared by groups of query heads, gated MLP. Members of
/// config.json that all of the kin have are read here, those of one family in its file.
struct RotaryDecoder {
  /// Biases of queries, keys and values.
  var inputBias: GraphBuilder.Bias
  /// Biases of attention's output.
  var outputBias: GraphBuilder.Bias
  /// Biases of the MLP.
  var mlpBias = GraphBuilder.Bias.denied
  /// True when queries, keys and values are one tensor, and gate and up, too.
  var isFused = false

  /// The places of norms in a layer.
  var norms = Norms.before
  /// The constant that is added to the gains of all norms.
  var gainOffset: Float = 0
  /// Operations on queries and keys before the attention scores.
  var between: Between?
  /// The part of layers behind attention, where it is no gated MLP.
  var feedForward: FeedForward?

  // What a configuration means that does not say it.
  /// ε of the norms.
  var epsilon: Float = 1e-6
  /// The activation function, and the member of config.json that says another; nil: none does.
  var activation: (member: String?, usual: ActivationKind) = ("hidden_act", .silu)
  /// Heads, and those of keys and values; nil: the head count is unknown.
  var heads: (queries: Int, keysAndValues: Int)?
  /// Channels of a head; nil: so many that heads fill the residual stream.
  var headSize: Int?
  /// The most tokens of a sequence; nil: any number.
  var contextLength: Int?
  /// True when the output head is the embedding.
  var isTied = false

  // Constants.
  /// The factor of attention's products; nil: `1/√(channels of a head)`.
  var attentionScale: Float?
  /// The soft cap of attention's scores.
  var attentionCap: Float?
  /// True when each head has a sink, `self_attn.sinks`.
  var hasSinks = false
  /// The factor of embeddings, by channels of the residual stream.
  var embeddingScale: (@Sendable (Int) -> Float)?
  /// The factor of what attention and MLP add to the residual stream.
  var residualScale: Float?
  /// The factor of the logits.
  var logitScale: Float?
  /// The soft cap of the logits.
  var logitCap: Float?

  /// What each of so many layers sees.
  var windows: @Sendable (Configuration, Int) throws -> LayerWindows = { LayerWindows(none: $1) }
  /// The positions of each of so many layers, with heads of so many channels.
  var positions: @Sendable (Configuration, Int, Int) throws -> [Attention.Positions] = {
    [Attention.Positions](repeating: .rotary(try $0.rotary(headSize: $2)), count: $1)
  }

  /// The places of norms in a layer, with their names.
  enum Norms {
    /// `input_layernorm` before attention, `post_attention_layernorm` before the MLP.
    case before
    /// `post_attention_layernorm` after attention, `post_feedforward_layernorm` after the MLP.
    case after
    /// Before and after both, `pre_feedforward_layernorm` before the MLP.
    case around
  }

  /// Given a builder, the name of a linear, its value, the channels of that, a head's channels and the
  /// norms' ε, adds nodes and gives the last one's name. A head's channels are 0 where they are unknown.
  typealias Between = @Sendable (inout GraphBuilder, String, String, Int, Int, Float) -> String

  /// Given a builder and a layer, adds nodes and gives the last one's name; nil: the layer has a gated MLP.
  typealias FeedForward = @Sendable (inout GraphBuilder, Layer) throws -> String?

  /// A layer of the model, as far as the part behind attention needs it.
  struct Layer {
    let index: Int
    /// Layers of the model.
    let count: Int
    /// `model.layers.0.`
    let prefix: String
    /// The value that the part reads.
    let input: String
    /// Sizes and function of the usual MLP.
    let mlp: GraphBuilder.MLP
  }

  init(inputBias: GraphBuilder.Bias, outputBias: GraphBuilder.Bias, mlpBias: GraphBuilder.Bias = .denied) {
    (self.inputBias, self.outputBias, self.mlpBias) = (inputBias, outputBias, mlpBias)
  }

  /// A decoder whose biases are those that the configuration states, for attention and for the MLP.
  ///
  /// - Throws: `Refusal` for members that are neither true nor false.
  init(biasesOf configuration: Configuration) throws {
    let attention = try GraphBuilder.Bias(configuration, "attention_bias")
    self.init(
      inputBias: attention, outputBias: attention, mlpBias: try GraphBuilder.Bias(configuration, "mlp_bias"))
  }

  /// A decoder without biases.
  init() { self.init(inputBias: .denied, outputBias: .denied) }

  /// Adds the nodes and outputs.
  func build(_ builder: inout GraphBuilder) throws {
    let (configuration, prefix) = (builder.configuration, builder.prefix)
    let table = prefix + "embed_tokens.weight"
    let found = try builder.tensors.matrix(table)
    let vocabulary = try configuration.size("vocab_size") ?? found.rows
    let sizes = try Sizes(self, builder, hidden: try configuration.size("hidden_size") ?? found.columns)
    let hidden = sizes.hidden
    let configured = try configuration.size("num_hidden_layers")
    let indices = try builder.countLayers(prefix + "layers.", configured: configured)
    let attentions = try attentions(&builder, sizes, layerCount: indices.count)

    let tokens = builder.add("token_ids", .tokenIDs)
    var value = builder.embedding(prefix + "embed_tokens", tokens, rowCount: vocabulary, size: hidden)
    value = scaled(&builder, prefix + "scaled_embeddings", value, embeddingScale?(hidden))
    for (index, attention) in zip(indices, attentions) {
      value = try layer(&builder, index, value, attention, sizes)
    }
    value = norm(&builder, prefix + "norm", value, sizes)
    builder.outputs = ["hidden": value]
    builder.vocabularySize = vocabulary
    if sizes.heads == 0 { builder.missing.append("num_attention_heads") }
    if !configuration.isPresent { builder.missing += ["rms_norm_eps", "rope_theta"] }
    // A classifier takes the place of the output head.
    if let task = configuration.task { return try builder.decoderClassifier(value, hidden, for: task) }
    let isTied = try configuration.flag("tie_word_embeddings") ?? (self.isTied || !configuration.isPresent)
    if try hasHead(builder, isTied: isTied) {
      var logits = builder.head(
        "lm_head", value, hidden, vocabulary, table: .named(table), isTied: isTied, bias: .denied)
      logits = scaled(&builder, "scaled_logits", logits, logitScale)
      if let logitCap { logits = builder.add("capped_logits", .softCap(SoftCap(cap: logitCap)), logits) }
      builder.outputs = ["logits": logits]
    }
  }

  /// The sizes that config.json or, without it, the tensors tell.
  private struct Sizes {
    let hidden, inner: Int
    /// Of attention; 0 where they are unknown.
    let heads, groups, headSize: Int
    /// Channels of queries, and of keys and of values.
    let queries, keysAndValues: Int
    let epsilon: Float
    let kind: ActivationKind

    init(_ decoder: RotaryDecoder, _ builder: GraphBuilder, hidden: Int) throws {
      let (configuration, tensors, layer0) = (builder.configuration, builder.tensors, builder.prefix + "layers.0.")
      self.hidden = hidden
      let gate = decoder.isFused ? "gate_up_proj" : "gate_proj"
      inner =
        try configuration.size("intermediate_size")
        ?? tensors.matrix("\(layer0)mlp.\(gate).weight").rows / (decoder.isFused ? 2 : 1)
      epsilon = try configuration.epsilon("rms_norm_eps") ?? decoder.epsilon
      kind = try decoder.activation.member.flatMap(configuration.activation) ?? decoder.activation.usual
      let usual = configuration.isPresent ? decoder.heads : nil
      let heads = try configuration.size("num_attention_heads") ?? usual?.queries
      self.heads = heads ?? 0
      guard let heads else {
        (groups, headSize) = (0, 0)
        queries = try tensors.matrix(layer0 + "self_attn.o_proj.weight").columns
        keysAndValues =
          decoder.isFused
          ? try max(0, tensors.matrix(layer0 + "self_attn.qkv_proj.weight").rows - queries) / 2
          : try tensors.matrix(layer0 + "self_attn.v_proj.weight").rows
        return
      }
      headSize =
        try configuration.size("head_dim") ?? decoder.headSize ?? configuration.quotient(hidden, heads, "heads")
      let valueRows = tensors.dimensions(layer0 + "self_attn.v_proj.weight")?.first ?? 0
      groups =
        try configuration.size("num_key_value_heads") ?? usual?.keysAndValues
        ?? (valueRows > 0 && valueRows % headSize == 0 ? valueRows / headSize : heads)
      (queries, keysAndValues) = (heads * headSize, groups * headSize)
    }
  }

  /// The attention of each layer; sets the builder's context length.
  private func attentions(_ builder: inout GraphBuilder, _ sizes: Sizes, layerCount: Int) throws -> [Attention] {
    let configuration = builder.configuration
    let limits = try windows(configuration, layerCount)
    let usual = configuration.isPresent ? self.contextLength : nil
    let trained = try configuration.size("max_position_embeddings") ?? usual
    let contextLength = [trained, limits.contextLimit].compactMap { $0 }.min()
    builder.contextLength = contextLength
    guard sizes.heads > 0 else {
      let unknown = Attention(
        headCount: 0, keyValueHeadCount: 0, headSize: 0, isCausal: true,
        positions: .rotary(Rotary(theta: 10000, dimensions: 0)))
      return [Attention](repeating: unknown, count: layerCount)
    }
    let positions = try positions(configuration, layerCount, sizes.headSize)
    return (0..<layerCount).map { index in
      // A window of all tokens that there can be hides none.
      let window = limits.windows[index].flatMap { $0 >= contextLength ?? .max ? nil : $0 }
      let sinks = SourceTensor.named("\(builder.prefix)layers.\(index).self_attn.sinks")
      return Attention(
        headCount: sizes.heads, keyValueHeadCount: sizes.groups, headSize: sizes.headSize, scale: attentionScale,
        softCap: attentionCap, isCausal: true, window: window, positions: positions[index],
        sinks: hasSinks ? builder.required(sinks, [sizes.heads]) : nil)
    }
  }

  private func layer(
    _ builder: inout GraphBuilder, _ index: Int, _ input: String, _ attention: Attention, _ sizes: Sizes
  ) throws -> String {
    let layer = "\(builder.prefix)layers.\(index)."
    var block = GraphBuilder.AttentionBlock(
      attention, hidden: sizes.hidden, querySize: sizes.queries, keyValueSize: sizes.keysAndValues)
    block.inputBias = inputBias
    block.outputBias = outputBias
    block.between = between.map { between in { between(&$0, $1, $2, $3, sizes.headSize, sizes.epsilon) } }
    if isFused { block.fused = layer + "self_attn.qkv_proj" }
    var mlp = GraphBuilder.MLP(hidden: sizes.hidden, inner: sizes.inner, kind: sizes.kind, bias: mlpBias)
    if isFused { mlp.fused = layer + "mlp.gate_up_proj" }

    func norm(_ name: String, _ value: String, _ isThere: Bool) -> String {
      isThere ? self.norm(&builder, layer + name, value, sizes) : value
    }
    let names = ["q", "k", "v", "o"].map { "\(layer)self_attn.\($0)_proj" }
    var added = builder.attention(
      layer + "self_attn", norm("input_layernorm", input, norms != .after), block,
      linears: (names[0], names[1], names[2], names[3]))
    added = norm("post_attention_layernorm", added, norms != .before)
    added = scaled(&builder, layer + "attention_scaled", added, residualScale)
    let middle = builder.add(layer + "attention_sum", .add, input, added)
    switch norms {
    case .before: added = norm("post_attention_layernorm", middle, true)
    case .around: added = norm("pre_feedforward_layernorm", middle, true)
    case .after: added = middle
    }
    let place = Layer(index: index, count: builder.layerCount, prefix: layer, input: added, mlp: mlp)
    added = try feedForward?(&builder, place) ?? builder.gatedMLP(layer + "mlp.", added, mlp)
    added = norm("post_feedforward_layernorm", added, norms != .before)
    added = scaled(&builder, layer + "mlp_scaled", added, residualScale)
    return builder.add(layer + "mlp_sum", .add, middle, added)
  }

  private func norm(_ builder: inout GraphBuilder, _ name: String, _ input: String, _ sizes: Sizes) -> String {
    builder.rmsNorm(name, input, size: sizes.hidden, epsilon: sizes.epsilon, offset: gainOffset)
  }

  private func scaled(_ builder: inout GraphBuilder, _ name: String, _ input: String, _ factor: Float?) -> String {
    guard let factor, factor != 1 else { return input }
    return builder.add(name, .scale(Scale(factor: factor)), input)
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
