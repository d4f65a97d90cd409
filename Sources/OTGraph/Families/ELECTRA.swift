/// ELECTRA (arXiv:2003.10555): discriminators, generators and classifiers made of them.
///
/// A BERT whose embeddings may be narrower than its layers: a linear makes one of the other. There is no pooler.
package enum ELECTRAFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "electra", modelTypes: ["electra"], architectures: ["Electra"], prefixes: ["electra.", ""],
    anchor: "embeddings.word_embeddings.weight",
    signature: [
      "embeddings.token_type_embeddings.weight", "encoder.layer.0.attention.self.query.weight",
      "embeddings_project.weight",
    ],
    layers: "encoder.layer.", body: ["embeddings", "encoder"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let (configuration, tensors) = (builder.configuration, builder.tensors)
    try configuration.refuseDecoder()
    var encoder = PostNormEncoder()
    let columns = try tensors.matrix(builder.prefix + facts.anchor).columns
    encoder.embeddingSize = try configuration.size("embedding_size") ?? (configuration.isPresent ? 128 : columns)
    if !configuration.isPresent {
      encoder.hiddenSize = try tensors.matrix(builder.prefix + "encoder.layer.0.attention.self.query.weight").rows
    }
    let sizes = try encoder.sizes(builder)
    let value = try encoder.build(&builder, sizes)

    try builder.robertaClassifier(value, sizes.hidden, .gelu)
    if configuration.architectureEnds(in: "ForPreTraining") {
      // Whether a token was replaced: one logit.
      let active = builder.dense(
        "discriminator_predictions.dense", value, sizes.hidden, sizes.kind,
        activation: "discriminator_predictions.activation")
      builder.outputs["token_class_logits"] = builder.linear(
        "discriminator_predictions.dense_prediction", active, sizes.hidden, 1, bias: .required, role: .head)
    }
    try builder.maskedHead(
      value, sizes,
      .init(
        dense: "generator_predictions.dense", activation: "generator_predictions.activation",
        norm: "generator_predictions.LayerNorm", decoder: "generator_lm_head", bias: "generator_lm_head.bias",
        kind: .gelu))
  }
}
