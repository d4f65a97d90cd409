import OTFoundation

/// The decoder of LLaMA, with what differs among its kin.
///
/// RMSNorm, rotary positions, key/value heads shared by groups of query heads, gated MLP; or LayerNorm, a plain MLP,
/// attention and MLP side by side. Members of config.json that all of the kin have are read here, those of one family
/// in its file.
struct RotaryDecoder {
  /// Biases of queries, keys and values.
  var inputBias: GraphBuilder.Bias
  /// Biases of attention's output.
  var outputBias: GraphBuilder.Bias
  /// Biases of the MLP.
  var mlpBias = GraphBuilder.Bias.denied
  /// True when queries, keys and values are one tensor.
  var fusesInputs = false
  /// The linears of the MLP.
  var mlp = MLPForm.gated
  /// True when the activation function's value is squared.
  var squaresActivation = false
  /// The bound of queries, keys and values; nil: none.
  var inputBound: Float?
  /// The name of the linear for attention's value.
  var outputName = "o_proj"

  /// The places of norms in a layer.
  var norms = Norms.before
  /// The kind of these norms.
  var normKind = NormKind.rms
  /// The name of the norm behind the layers.
  var lastNorm = "norm"
  /// The constant that is added to the gains of all norms.
  var gainOffset: Float = 0
  /// Operations on queries and keys before the attention scores.
  var between: Between?
  /// Attention with its linears, where queries, keys and values are no three linears.
  var attentionPart: AttentionPart?
  /// The part of layers behind attention, where it is no gated MLP.
  var feedForward: FeedForward?

  // What a configuration means that does not say it.
  /// ε of the norms.
  var epsilon: Float = 1e-6
  /// The member of config.json that says another; nil: none does.
  var epsilonMember: String? = "rms_norm_eps"
  /// The biases of the output head.
  var headBias = GraphBuilder.Bias.denied
  /// The member of config.json with the channels within the MLP.
  var innerMember = "intermediate_size"
  /// The activation function, and the member of config.json that says another; nil: none does.
  var activation: (member: String?, usual: ActivationKind) = ("hidden_act", .silu)
  /// Heads, and those of keys and values; nil: the head count is unknown.
  var heads: (queries: Int, keysAndValues: Int)?
  /// Channels of a head; nil: so many that heads fill the residual stream.
  var headSize: Int?
  /// The member of config.json that says another; nil: none does.
  var headSizeMember: String? = "head_dim"
  /// Channels of a head of values; nil: as many as of keys.
  var valueSize: Int?
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

  /// The names of norms in a layer, by their places.
  struct Norms {
    var beforeAttention, afterAttention, beforeMLP, afterMLP: String?
    /// True when the MLP reads what attention reads, and both are added to the residual stream.
    var isParallel = false

    /// Before attention and before the MLP.
    static let before = Norms(beforeAttention: "input_layernorm", beforeMLP: "post_attention_layernorm")
    /// After both.
    static let after = Norms(afterAttention: "post_attention_layernorm", afterMLP: "post_feedforward_layernorm")
    /// Before and after both.
    static let around = Norms(
      beforeAttention: "input_layernorm", afterAttention: "post_attention_layernorm",
      beforeMLP: "pre_feedforward_layernorm", afterMLP: "post_feedforward_layernorm")
    /// One norm, whose value attention and MLP read.
    static let shared = Norms(beforeAttention: "input_layernorm", isParallel: true)
  }

  /// A kind of norm.
  enum NormKind {
    case rms
    /// LayerNorm, with an offset or without.
    case layer(GraphBuilder.Bias)
    /// LayerNorm without parameters.
    case plain
  }

  /// The linears of an MLP, with their names.
  enum MLPForm {
    /// `gate_proj`, `up_proj` and `down_proj` of `mlp`.
    case gated
    /// Gate and up in one tensor.
    case fused(String, output: String)
    /// Two, with an activation function between them.
    case plain(String, String)
  }

  /// Given a builder, the name of a linear, its value, the channels of that, a head's channels and the
  /// norms' ε, adds nodes and gives the last one's name. A head's channels are 0 where they are unknown.
  typealias Between = @Sendable (inout GraphBuilder, String, String, Int, Int, Float) -> String

  /// Given a builder, a layer and its attention, adds nodes and gives the name of the last linear.
  typealias AttentionPart = @Sendable (inout GraphBuilder, Layer, Attention) -> String

  /// Given a builder and a layer, adds nodes and gives the last one's name; nil: the layer has a gated MLP.
  typealias FeedForward = @Sendable (inout GraphBuilder, Layer) throws -> String?

  /// A layer of the model, as far as attention and the part behind it need it.
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
    value = norm(&builder, prefix + lastNorm, value, sizes)
    builder.outputs = ["hidden": value]
    builder.vocabularySize = vocabulary
    if sizes.heads == 0 { builder.missing.append("num_attention_heads") }
    if !configuration.isPresent { builder.missing += [epsilonMember, "rope_theta"].compactMap { $0 } }
    // A classifier takes the place of the output head.
    if let task = configuration.task { return try builder.decoderClassifier(value, hidden, for: task) }
    let isTied = try configuration.flag("tie_word_embeddings") ?? (self.isTied || !configuration.isPresent)
    if builder.hasHead("lm_head", isTied: isTied) {
      var logits = builder.head(
        "lm_head", value, hidden, vocabulary, table: .named(table), isTied: isTied, bias: headBias)
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
      let (first, parts) = decoder.mlp.first
      inner = try configuration.size(decoder.innerMember) ?? tensors.matrix("\(layer0)\(first).weight").rows / parts
      epsilon = try decoder.epsilonMember.flatMap(configuration.epsilon) ?? decoder.epsilon
      kind = try decoder.activation.member.flatMap(configuration.activation) ?? decoder.activation.usual
      let usual = configuration.isPresent ? decoder.heads : nil
      let heads = try configuration.size("num_attention_heads") ?? usual?.queries
      self.heads = heads ?? 0
      guard let heads else {
        (groups, headSize) = (0, 0)
        queries = try tensors.matrix("\(layer0)self_attn.\(decoder.outputName).weight").columns
        keysAndValues =
          decoder.fusesInputs
          ? try max(0, tensors.matrix(layer0 + "self_attn.qkv_proj.weight").rows - queries) / 2
          : try tensors.matrix(layer0 + "self_attn.v_proj.weight").rows
        return
      }
      headSize =
        try decoder.headSizeMember.flatMap { try configuration.size($0) } ?? decoder.headSize
        ?? configuration.quotient(hidden, heads, "heads")
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
        headCount: sizes.heads, keyValueHeadCount: sizes.groups, headSize: sizes.headSize, valueSize: valueSize,
        scale: attentionScale, softCap: attentionCap, isCausal: true, window: window, positions: positions[index],
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
    block.bound = inputBound
    if fusesInputs { block.fused = layer + "self_attn.qkv_proj" }

    func norm(_ name: String?, _ value: String) -> String {
      name.map { self.norm(&builder, layer + $0, value, sizes) } ?? value
    }
    let names = ["q_proj", "k_proj", "v_proj", outputName].map { "\(layer)self_attn.\($0)" }
    let normed = norm(norms.beforeAttention, input)
    func place(_ input: String) -> Layer {
      Layer(index: index, count: builder.layerCount, prefix: layer, input: input, mlp: mlpBlock(sizes))
    }
    var added =
      attentionPart.map { $0(&builder, place(normed), attention) }
      ?? builder.attention(
        layer + "self_attn", normed, block, linears: (names[0], names[1], names[2], names[3]))
    added = norm(norms.afterAttention, added)
    added = scaled(&builder, layer + "attention_scaled", added, residualScale)
    let middle = builder.add(layer + "attention_sum", .add, input, added)
    added = norms.isParallel ? normed : norm(norms.beforeMLP, middle)
    added = try feedForward?(&builder, place(added)) ?? mlp(&builder, layer, added, sizes)
    added = norm(norms.afterMLP, added)
    added = scaled(&builder, layer + "mlp_scaled", added, residualScale)
    return builder.add(layer + "mlp_sum", .add, middle, added)
  }

  private func mlpBlock(_ sizes: Sizes) -> GraphBuilder.MLP {
    var block = GraphBuilder.MLP(hidden: sizes.hidden, inner: sizes.inner, kind: sizes.kind, bias: mlpBias)
    block.isSquared = squaresActivation
    return block
  }

  private func mlp(_ builder: inout GraphBuilder, _ layer: String, _ input: String, _ sizes: Sizes) -> String {
    var block = mlpBlock(sizes)
    switch mlp {
    case .gated: return builder.gatedMLP(layer + "mlp.", input, block)
    case .fused(let name, let output):
      block.fused = layer + name
      let module = name.prefix { $0 != "." }
      return builder.gatedMLP("\(layer)\(module).", input, block, output: layer + output)
    case .plain(let first, let second):
      return builder.mlp(
        input, block, first: layer + first, activation: layer + "mlp.activation", second: layer + second)
    }
  }

  private func norm(_ builder: inout GraphBuilder, _ name: String, _ input: String, _ sizes: Sizes) -> String {
    let (size, epsilon) = (sizes.hidden, sizes.epsilon)
    switch normKind {
    case .rms: return builder.rmsNorm(name, input, size: size, epsilon: epsilon, offset: gainOffset)
    case .layer(let bias):
      return builder.layerNorm(name, input, size: size, epsilon: epsilon, bias: bias, offset: gainOffset)
    case .plain:
      return builder.add(name, .layerNorm(Norm(gamma: nil, beta: nil, epsilon: epsilon, size: size)), input)
    }
  }

  private func scaled(_ builder: inout GraphBuilder, _ name: String, _ input: String, _ factor: Float?) -> String {
    guard let factor, factor != 1 else { return input }
    return builder.add(name, .scale(Scale(factor: factor)), input)
  }
}

extension RotaryDecoder.MLPForm {
  /// The first linear, and the parts of its weight.
  fileprivate var first: (name: String, parts: Int) {
    switch self {
    case .gated: ("mlp.gate_proj", 1)
    case .fused(let name, _): (name, 2)
    case .plain(let name, _): (name, 1)
    }
  }
}
