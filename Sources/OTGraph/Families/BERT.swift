import OTFoundation
import OTJSON

/// BERT (arXiv:1810.04805) and sentence encoders made of it, MiniLM among them.
///
/// Norms stand after the residual additions, so each feeds linears and a
/// residual. `hidden` is always an output, `logits` with the masked-LM head,
/// `pooled` with the pooler.
package enum BERTFamily: ModelFamily {
  /// The family's name.
  package static let name = "bert"
  /// Values of `model_type` in config.json.
  package static let modelTypes = ["bert"]

  private static let prefixes = ["bert.", ""]

  /// Whether a checkpoint without configuration has this family's names.
  package static func recognizes(tensorNames: Set<String>) -> Bool {
    prefixes.contains {
      tensorNames.contains($0 + "embeddings.token_type_embeddings.weight")
        && tensorNames.contains($0 + "encoder.layer.0.attention.self.query.weight")
    }
  }

  /// The model as a graph.
  package static func graph(configuration: JSONValue?, tensors: TensorCatalog) throws -> Graph {
    let configuration = try Configuration(configuration, file: tensors.file)
    let prefix = tensors.prefix(of: prefixes, with: "embeddings.word_embeddings.weight")
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

    var builder = GraphBuilder(tensors)
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
    for index in 0..<(try tensors.layerCount(prefix: layers, configured: configured)) {
      let layer = "\(layers)\(index)."
      let block = layer + "attention."
      let projections = ["query", "key", "value"].map {
        builder.linear("\(block)self.\($0)", value, hidden, hidden, needsBias: true)
      }
      let mixed = builder.add(
        block + "self", .attention(attention), projections[0], projections[1], projections[2])
      let attended = builder.linear(block + "output.dense", mixed, hidden, hidden, needsBias: true)
      value = builder.add(block + "output.sum", .add, attended, value)
      value = norm(block + "output.LayerNorm", value)

      let first = builder.linear(
        layer + "intermediate.dense", value, hidden, inner, needsBias: true)
      let active = builder.add(
        layer + "intermediate.intermediate_act_fn", .activation(kind), first)
      let second = builder.linear(layer + "output.dense", active, inner, hidden, needsBias: true)
      value = builder.add(layer + "output.sum", .add, second, value)
      value = norm(layer + "output.LayerNorm", value)
    }
    var outputs = ["hidden": value]

    let pooler = prefix + "pooler."
    if tensors[pooler + "dense.weight"] != nil {
      let first = builder.add(pooler + "first_token", .firstToken, value)
      let dense = builder.linear(
        pooler + "dense", first, hidden, hidden, needsBias: true, role: .head)
      outputs["pooled"] = builder.add(pooler + "activation", .activation(.tanh), dense)
    }

    let predictions = "cls.predictions."
    let transform = predictions + "transform."
    if tensors[transform + "dense.weight"] != nil {
      let dense = builder.linear(
        transform + "dense", value, hidden, hidden, needsBias: true, role: .head)
      let active = builder.add(transform + "transform_act_fn", .activation(kind), dense)
      let normed = norm(transform + "LayerNorm", active)
      let bias = builder.optional(.named(predictions + "bias"), [vocabulary])
      outputs["logits"] = builder.head(
        predictions + "decoder", normed, hidden, vocabulary, table: .named(table), bias: bias)
    }
    try builder.checkTensors()
    var missing = configuration.isPresent ? [] : ["layer_norm_eps", "hidden_act"]
    if heads == nil { missing.append("num_attention_heads") }
    return try Graph(
      family: name, nodes: builder.nodes, outputs: outputs, vocabularySize: vocabulary,
      contextLength: contextLength, missing: missing, file: tensors.file)
  }
}
