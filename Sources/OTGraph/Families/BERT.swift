/// BERT (arXiv:1810.04805) and sentence encoders made of it, MiniLM among them.
///
/// Norms stand after the residual additions, so each feeds linears and a
/// residual. `hidden` is always an output, `logits` with the masked-LM head,
/// `pooled` with the pooler.
package enum BERTFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "bert", modelTypes: ["bert"], architectures: ["Bert"], prefixes: ["bert.", ""],
    anchor: "embeddings.word_embeddings.weight",
    signature: ["embeddings.token_type_embeddings.weight", "encoder.layer.0.attention.self.query.weight"],
    layers: "encoder.layer.", body: ["embeddings", "encoder"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let (configuration, tensors, prefix) = (builder.configuration, builder.tensors, builder.prefix)
    let padding = configuration.value("pad_token_id")?.integer ?? 0
    try configuration.refuseUnnamed(
      where: padding != 0, "pads with token \(padding), behind which the positions of RoBERTa and its kin begin",
      architecture: "BertModel")
    let embeddings = prefix + "embeddings."
    let table = embeddings + "word_embeddings.weight"
    let found = try tensors.matrix(table)
    let vocabulary = try configuration.size("vocab_size") ?? found.rows
    let hidden = try configuration.size("hidden_size") ?? found.columns
    let inner =
      try configuration.size("intermediate_size")
      ?? tensors.matrix(prefix + "encoder.layer.0.intermediate.dense.weight").rows
    let contextLength =
      try configuration.size("max_position_embeddings")
      ?? tensors.matrix(embeddings + "position_embeddings.weight").rows
    let segments =
      try configuration.size("type_vocab_size")
      ?? tensors.matrix(embeddings + "token_type_embeddings.weight").rows
    let epsilon = try configuration.epsilon("layer_norm_eps") ?? 1e-12
    let kind = try configuration.activation("hidden_act") ?? .gelu
    if let positions = try configuration.text("position_embedding_type"), positions != "absolute" {
      throw configuration.refusal("positions of type '\(positions)' are not supported")
    }
    if try configuration.flag("add_cross_attention") ?? false {
      throw configuration.refusal("cross attention is not supported")
    }
    let heads = try configuration.size("num_attention_heads")
    let headSize = try heads.map { try configuration.quotient(hidden, $0, "heads") } ?? 0
    let attention = Attention(
      headCount: heads ?? 0, keyValueHeadCount: heads ?? 0, headSize: headSize,
      isCausal: try configuration.flag("is_decoder") ?? false, positions: .none)
    let block = GraphBuilder.AttentionBlock(attention, hidden: hidden, bias: .required)
    let mlp = GraphBuilder.MLP(hidden: hidden, inner: inner, kind: kind, bias: .required)

    func norm(_ name: String, _ input: String) -> String {
      builder.layerNorm(name, input, size: hidden, epsilon: epsilon)
    }
    let tokens = builder.add("token_ids", .tokenIDs)
    let tokenTypes = builder.add("token_type_ids", .tokenTypeIDs)
    let positionIDs = builder.add("position_ids", .positionIDs)
    let word = builder.embedding(
      embeddings + "word_embeddings", tokens, rowCount: vocabulary, size: hidden)
    let segment = builder.embedding(
      embeddings + "token_type_embeddings", tokenTypes, rowCount: segments, size: hidden)
    let position = builder.embedding(
      embeddings + "position_embeddings", positionIDs, rowCount: contextLength, size: hidden)
    // The order of the original's additions, which rounding depends on.
    var value = builder.add(embeddings + "typed_words", .add, word, segment)
    value = builder.add(embeddings + "sum", .add, value, position)
    value = norm(embeddings + "LayerNorm", value)

    let layers = prefix + "encoder.layer."
    let configured = try configuration.size("num_hidden_layers")
    for index in try builder.countLayers(layers, configured: configured) {
      let layer = "\(layers)\(index)."
      let part = layer + "attention."
      let names = ["self.query", "self.key", "self.value", "output.dense"].map { part + $0 }
      let attended = builder.attention(
        part + "self", value, block, linears: (names[0], names[1], names[2], names[3]))
      value = builder.add(part + "output.sum", .add, attended, value)
      value = norm(part + "output.LayerNorm", value)

      let second = builder.mlp(
        value, mlp, first: layer + "intermediate.dense", activation: layer + "intermediate.intermediate_act_fn",
        second: layer + "output.dense")
      value = builder.add(layer + "output.sum", .add, second, value)
      value = norm(layer + "output.LayerNorm", value)
    }
    builder.outputs["hidden"] = value

    let pooler = prefix + "pooler."
    if tensors[pooler + "dense.weight"] != nil {
      let first = builder.add(pooler + "first_token", .firstToken, value)
      let dense = builder.linear(
        pooler + "dense", first, hidden, hidden, bias: .required, role: .head)
      builder.outputs["pooled"] = builder.add(pooler + "activation", .activation(.tanh), dense)
    }

    let predictions = "cls.predictions."
    let transform = predictions + "transform."
    if tensors[transform + "dense.weight"] != nil {
      let dense = builder.linear(
        transform + "dense", value, hidden, hidden, bias: .required, role: .head)
      let active = builder.add(transform + "transform_act_fn", .activation(kind), dense)
      let normed = norm(transform + "LayerNorm", active)
      let isTied =
        try configuration.flag("tie_word_embeddings")
        ?? (configuration.isPresent || tensors[predictions + "decoder.weight"] == nil)
      // Two names of one bias, unless the head is not tied: the decoder's own is what is added.
      let hasOwnBias = tensors[predictions + "decoder.bias"] != nil
      builder.outputs["logits"] = builder.head(
        predictions + "decoder", normed, hidden, vocabulary, table: .named(table), isTied: isTied,
        biasSource: hasOwnBias ? nil : .named(predictions + "bias"))
    }
    builder.vocabularySize = vocabulary
    builder.contextLength = contextLength
    builder.missing = configuration.isPresent ? [] : ["layer_norm_eps", "hidden_act"]
    if heads == nil { builder.missing.append("num_attention_heads") }
  }
}
