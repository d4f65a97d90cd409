/// MPNet (arXiv:2004.09297), the encoder of all-mpnet-base-v2 and its kin.
///
/// A BERT without segments, with positions counted as RoBERTa's and, in every attention, a bias by the distance
/// of two tokens, which all layers share.
package enum MPNetFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "mpnet", modelTypes: ["mpnet"], architectures: ["MPNet"], prefixes: ["mpnet.", ""],
    anchor: "embeddings.word_embeddings.weight",
    signature: ["encoder.relative_attention_bias.weight", "encoder.layer.0.attention.attn.q.weight"],
    layers: "encoder.layer.", body: ["embeddings", "encoder"])

  /// The first of the distances that share a row of the table: each up to 8 has its own, those up to 128 share
  /// rows of logarithmic width, as in T5 (arXiv:1910.10683), rounded as the original rounds them.
  private static let starts = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91]

  private static let names: PostNormEncoder.Names = {
    var names = PostNormEncoder.Names()
    names.attention = "attention.attn"
    names.projections = ["q", "k", "v", "o"].map { "attention.attn.\($0)" }
    names.attentionSum = "attention.sum"
    names.attentionNorm = "attention.LayerNorm"
    return names
  }()

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    let bucketCount = try configuration.size("relative_attention_num_buckets") ?? 32
    guard bucketCount == 2 * starts.count else {
      throw configuration.refusal("\(bucketCount) buckets of distances are not supported")
    }
    var encoder = PostNormEncoder()
    encoder.names = names
    encoder.hasSegments = false
    // The original's code does not ask the configuration.
    encoder.paddingToken = 1
    encoder.distances = (table: "encoder.relative_attention_bias.weight", starts: starts)
    let sizes = try encoder.sizes(builder)
    let value = try encoder.build(&builder, sizes)

    builder.pooler(value, sizes.hidden)
    try builder.robertaClassifier(value, sizes.hidden)
    try builder.maskedHead(value, sizes, .roberta)
  }
}
