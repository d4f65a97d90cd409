/// RoBERTa (arXiv:1907.11692), XLM-RoBERTa and CamemBERT.
///
/// A BERT whose positions are counted over the tokens that are not padding, behind the padding token's row of
/// the table. A classifier reads the first token through a dense layer of its own.
package enum RoBERTaFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "roberta", modelTypes: ["roberta", "xlm-roberta", "camembert"],
    architectures: ["Roberta", "XLMRoberta", "Camembert"], prefixes: ["roberta.", ""],
    anchor: "embeddings.word_embeddings.weight",
    signature: ["embeddings.token_type_embeddings.weight", "encoder.layer.0.attention.self.query.weight"],
    layers: "encoder.layer.", body: ["embeddings", "encoder"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    var encoder = PostNormEncoder()
    let padding = try configuration.paddingToken(usual: 1)
    try configuration.refuseUnnamed(
      where: padding == 0, "pads with token 0, as BERT does", architecture: "RobertaModel")
    encoder.paddingToken = padding
    try configuration.refuseDecoder()
    let sizes = try encoder.sizes(builder)
    let value = try encoder.build(&builder, sizes)

    builder.pooler(value, sizes.hidden)
    try builder.robertaClassifier(value, sizes.hidden)
    try builder.maskedHead(value, sizes, .roberta)
  }
}
