import OTFoundation

/// The encoder of BERT, with what differs among its kin.
///
/// Embeddings of words, positions and, in most, segments, summed and normalized; layers whose norms stand
/// behind the residual additions, so that each feeds linears and a residual. Every linear has a bias.
struct PostNormEncoder {
  /// The names of modules and of members of config.json.
  var names = Names()
  /// The token for padding, behind whose row the positions of RoBERTa and its kin begin, and which takes none.
  var paddingToken: Int?
  /// True where tokens have segments.
  var hasSegments = true
  /// Channels of the embeddings, where a linear may make those of the layers of them.
  var embeddingSize: Int?
  /// Channels of the layers where no member says it; nil: those of the embeddings.
  var hiddenSize: Int?
  /// Biases of attention by distance: a table's name behind the prefix, which all layers share, and the least
  /// distance of each of its rows.
  var distances: (table: String, starts: [Int])?
  /// ε of the norms where no member says it.
  var epsilon: Float = 1e-12

  /// The names of modules, behind the prefix or behind that of a layer, and of members of config.json.
  struct Names {
    var layers = "encoder.layer."
    var attention = "attention.self"
    var projections = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"]
    var attentionSum = "attention.output.sum"
    var attentionNorm = "attention.output.LayerNorm"
    var first = "intermediate.dense"
    var activation = "intermediate.intermediate_act_fn"
    var second = "output.dense"
    var sum = "output.sum"
    var norm = "output.LayerNorm"
    // Members.
    var hiddenSize = "hidden_size"
    var innerSize = "intermediate_size"
    var headCount = "num_attention_heads"
    var layerCount = "num_hidden_layers"
    var function = "hidden_act"
    /// nil: none says it.
    var epsilon: String? = "layer_norm_eps"
  }

  /// The sizes that config.json or, without it, the tensors tell; heads need them, too.
  struct Sizes {
    let vocabulary, hidden, inner: Int
    /// Channels of the embeddings.
    let embedded: Int
    let epsilon: Float
    let kind: ActivationKind
    /// nil where it is unknown.
    let headCount: Int?
    /// The name of the token embedding's table.
    let table: String
  }

  /// - Throws: `Refusal` as `ModelFamily.build`.
  func sizes(_ builder: GraphBuilder) throws -> Sizes {
    let (configuration, tensors, prefix) = (builder.configuration, builder.tensors, builder.prefix)
    let table = prefix + "embeddings.word_embeddings.weight"
    let found = try tensors.matrix(table)
    let hidden = try configuration.size(names.hiddenSize) ?? hiddenSize ?? found.columns
    let inner =
      try configuration.size(names.innerSize)
      ?? tensors.matrix("\(prefix)\(names.layers)0.\(names.first).weight").rows
    return Sizes(
      vocabulary: try configuration.size("vocab_size") ?? found.rows, hidden: hidden, inner: inner,
      embedded: embeddingSize ?? hidden, epsilon: try names.epsilon.flatMap(configuration.epsilon) ?? epsilon,
      kind: try configuration.activation(names.function) ?? .gelu,
      headCount: try configuration.size(names.headCount)
        ?? distances.map { try tensors.matrix(prefix + $0.table).columns }, table: table)
  }

  /// Adds the nodes; the output `hidden` is the value that it returns.
  ///
  /// - Parameter isCausal: true where tokens see no later ones.
  /// - Throws: `Refusal` as `ModelFamily.build`.
  func build(_ builder: inout GraphBuilder, _ sizes: Sizes, isCausal: Bool = false) throws -> String {
    let (configuration, hidden) = (builder.configuration, sizes.hidden)
    if let positions = try configuration.text("position_embedding_type"), positions != "absolute" {
      throw configuration.refusal("positions of type '\(positions)' are not supported")
    }
    if try configuration.flag("add_cross_attention") ?? false {
      throw configuration.refusal("cross attention is not supported")
    }
    let headSize = try sizes.headCount.map { try configuration.quotient(hidden, $0, "heads") } ?? 0
    let positions = distances.map { distances -> Attention.Positions in
      let table = builder.required(
        .named(builder.prefix + distances.table), [2 * distances.starts.count, sizes.headCount ?? 0])
      return .distances(DistanceTable(table: table, starts: distances.starts))
    }
    let attention = Attention(
      headCount: sizes.headCount ?? 0, keyValueHeadCount: sizes.headCount ?? 0, headSize: headSize,
      isCausal: isCausal, positions: positions ?? .none)
    let block = GraphBuilder.AttentionBlock(attention, hidden: hidden, bias: .required)
    let mlp = GraphBuilder.MLP(hidden: hidden, inner: sizes.inner, kind: sizes.kind, bias: .required)

    func norm(_ name: String, _ input: String) -> String {
      builder.layerNorm(name, input, size: hidden, epsilon: sizes.epsilon)
    }
    var value = try embeddings(&builder, sizes)
    let layers = builder.prefix + names.layers
    let configured = try configuration.size(names.layerCount)
    for index in try builder.countLayers(layers, configured: configured) {
      let layer = "\(layers)\(index)."
      let linears = names.projections.map { layer + $0 }
      let attended = builder.attention(
        layer + names.attention, value, block, linears: (linears[0], linears[1], linears[2], linears[3]))
      value = builder.add(layer + names.attentionSum, .add, attended, value)
      value = norm(layer + names.attentionNorm, value)

      let second = builder.mlp(
        value, mlp, first: layer + names.first, activation: layer + names.activation, second: layer + names.second)
      value = builder.add(layer + names.sum, .add, second, value)
      value = norm(layer + names.norm, value)
    }
    builder.outputs["hidden"] = value
    builder.vocabularySize = sizes.vocabulary
    builder.missing = configuration.isPresent ? [] : (names.epsilon.map { [$0] } ?? []) + [names.function]
    if sizes.headCount == nil { builder.missing.append(names.headCount) }
    return value
  }

  /// The normalized sum of the embeddings; sets the builder's context length.
  private func embeddings(_ builder: inout GraphBuilder, _ sizes: Sizes) throws -> String {
    let (configuration, tensors) = (builder.configuration, builder.tensors)
    let embeddings = builder.prefix + "embeddings."
    let positionCount =
      try configuration.size("max_position_embeddings")
      ?? tensors.matrix(embeddings + "position_embeddings.weight").rows
    let firstPosition = paddingToken.map { $0 + 1 } ?? 0
    guard positionCount > firstPosition else {
      throw configuration.refusal("'max_position_embeddings' leaves no position behind the padding token's")
    }
    builder.contextLength = positionCount - firstPosition
    let tokens = builder.add("token_ids", .tokenIDs)
    let tokenTypes = hasSegments ? builder.add("token_type_ids", .tokenTypeIDs) : nil
    let positionIDs = builder.add(
      "position_ids", paddingToken.map { .countedPositionIDs(CountedPositions(paddingToken: $0)) } ?? .positionIDs)
    let size = sizes.embedded
    let word = builder.embedding(
      embeddings + "word_embeddings", tokens, rowCount: sizes.vocabulary, size: size)
    var segment: String?
    if let tokenTypes {
      let segments =
        try configuration.size("type_vocab_size")
        ?? tensors.matrix(embeddings + "token_type_embeddings.weight").rows
      segment = builder.embedding(embeddings + "token_type_embeddings", tokenTypes, rowCount: segments, size: size)
    }
    let position = builder.embedding(
      embeddings + "position_embeddings", positionIDs, rowCount: positionCount, size: size, rowOffset: firstPosition)
    // The order of the original's additions, which rounding depends on.
    var value = segment.map { builder.add(embeddings + "typed_words", .add, word, $0) } ?? word
    value = builder.add(embeddings + "sum", .add, value, position)
    value = builder.layerNorm(embeddings + "LayerNorm", value, size: size, epsilon: sizes.epsilon)
    guard size != sizes.hidden else { return value }
    return builder.linear(
      builder.prefix + "embeddings_project", value, size, sizes.hidden, bias: .required, role: .head)
  }
}
