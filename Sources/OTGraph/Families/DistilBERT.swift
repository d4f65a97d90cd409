/// DistilBERT (arXiv:1910.01108).
///
/// A BERT without segments and pooler, under other names.
package enum DistilBERTFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "distilbert", modelTypes: ["distilbert"], architectures: ["DistilBert"], prefixes: ["distilbert.", ""],
    anchor: "embeddings.word_embeddings.weight",
    signature: ["embeddings.position_embeddings.weight", "transformer.layer.0.attention.q_lin.weight"],
    layers: "transformer.layer.", body: ["embeddings", "transformer"])

  private static let names: PostNormEncoder.Names = {
    var names = PostNormEncoder.Names()
    names.layers = "transformer.layer."
    names.attention = "attention"
    names.projections = ["attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"]
    names.attentionSum = "attention.sum"
    names.attentionNorm = "sa_layer_norm"
    (names.first, names.activation, names.second) = ("ffn.lin1", "ffn.activation", "ffn.lin2")
    (names.sum, names.norm) = ("ffn.sum", "output_layer_norm")
    (names.hiddenSize, names.innerSize) = ("dim", "hidden_dim")
    (names.headCount, names.layerCount, names.function) = ("n_heads", "n_layers", "activation")
    // The norms' ε is no member.
    names.epsilon = nil
    return names
  }()

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    var encoder = PostNormEncoder()
    encoder.names = names
    encoder.hasSegments = false
    let sizes = try encoder.sizes(builder)
    let value = try encoder.build(&builder, sizes)

    switch configuration.task {
    case .sequenceClassification:
      let first = builder.add("pre_classifier.first_token", .firstToken, value)
      let active = builder.dense(
        "pre_classifier", first, sizes.hidden, .relu, activation: "pre_classifier.activation")
      try builder.classifier("classifier", active, sizes.hidden, for: .sequenceClassification)
    case let task?: try builder.classifier(task.linear, value, sizes.hidden, for: task)
    case nil: break
    }
    try builder.maskedHead(
      value, sizes,
      .init(
        dense: "vocab_transform", activation: "vocab_activation", norm: "vocab_layer_norm",
        decoder: "vocab_projector", bias: "vocab_projector.bias", kind: sizes.kind))
  }
}
