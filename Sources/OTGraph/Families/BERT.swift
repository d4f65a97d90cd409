/// BERT (arXiv:1810.04805) and sentence encoders made of it, MiniLM among them.
///
/// `hidden` is always an output, `logits` with the masked-LM head, `pooled` with the pooler, and the
/// classes of sequences or tokens with a classifier.
package enum BERTFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "bert", modelTypes: ["bert"], architectures: ["Bert"], prefixes: ["bert.", ""],
    anchor: "embeddings.word_embeddings.weight",
    signature: ["embeddings.token_type_embeddings.weight", "encoder.layer.0.attention.self.query.weight"],
    layers: "encoder.layer.", body: ["embeddings", "encoder"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    let padding = configuration.value("pad_token_id")?.integer ?? 0
    try configuration.refuseUnnamed(
      where: padding != 0, "pads with token \(padding), behind which the positions of RoBERTa and its kin begin",
      architecture: "BertModel")
    let encoder = PostNormEncoder()
    let sizes = try encoder.sizes(builder)
    let value = try encoder.build(&builder, sizes, isCausal: configuration.flag("is_decoder") ?? false)

    let task = configuration.task
    builder.pooler(value, sizes.hidden, isRequired: task == .sequenceClassification)
    if let task {
      let pooled = task == .sequenceClassification ? builder.outputs["pooled"] : nil
      try builder.classifier(task.linear, pooled ?? value, sizes.hidden, for: task)
    }
    let transform = "cls.predictions.transform."
    try builder.maskedHead(
      value, sizes,
      .init(
        dense: transform + "dense", activation: transform + "transform_act_fn", norm: transform + "LayerNorm",
        decoder: "cls.predictions.decoder", bias: "cls.predictions.bias", kind: sizes.kind))
  }
}
