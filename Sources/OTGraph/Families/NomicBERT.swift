/// Nomic BERT (arXiv:2402.01613), the encoder of nomic-embed-text.
///
/// Norms behind the residual additions as in BERT, rotary positions, a gated MLP, and no biases but those of norms
/// and heads.
package enum NomicBERTFamily: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "nomic_bert", modelTypes: ["nomic_bert"], architectures: ["NomicBert"],
    prefixes: ["nomic_bert.", "bert.", ""], anchor: "embeddings.word_embeddings.weight",
    signature: ["emb_ln.weight", "encoder.layers.0.attn.Wqkv.weight", "encoder.layers.0.mlp.fc12.weight"],
    layers: "encoder.layers.", body: ["embeddings", "emb_ln", "encoder"],
    publishedCode: [
      "modeling_hf_nomic_bert.NomicBertModel", "modeling_hf_nomic_bert.NomicBertForPreTraining",
      "modeling_hf_nomic_bert.NomicBertForSequenceClassification",
      "modeling_hf_nomic_bert.NomicBertForMaskedLM", "modeling_hf_nomic_bert.NomicBertForTokenClassification",
      "modeling_hf_nomic_bert.NomicBertForMultipleChoice", "modeling_hf_nomic_bert.NomicBertForQuestionAnswering",
    ])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let (configuration, tensors, prefix) = (builder.configuration, builder.tensors, builder.prefix)
    try checkMembers(configuration)
    let table = prefix + facts.anchor
    let found = try tensors.matrix(table)
    let vocabulary = try configuration.size("vocab_size") ?? found.rows
    let hidden = try configuration.size("hidden_size", "n_embd") ?? found.columns
    let inner =
      try configuration.size("intermediate_size", "n_inner")
      ?? tensors.matrix(prefix + "encoder.layers.0.mlp.fc11.weight").rows
    let epsilon = try configuration.epsilon("layer_norm_eps") ?? configuration.epsilon("layer_norm_epsilon") ?? 1e-12
    let heads = try configuration.size("num_attention_heads", "n_head")
    let sizes = PostNormEncoder.Sizes(
      vocabulary: vocabulary, hidden: hidden, inner: inner, embedded: hidden, epsilon: epsilon, kind: .silu,
      headCount: heads, table: table)
    func norm(_ name: String, _ input: String) -> String {
      builder.layerNorm(name, input, size: hidden, epsilon: epsilon)
    }

    let tokens = builder.add("token_ids", .tokenIDs)
    var value = builder.embedding(prefix + "embeddings.word_embeddings", tokens, rowCount: vocabulary, size: hidden)
    let types = prefix + "embeddings.token_type_embeddings"
    if tensors["\(types).weight"] != nil || configuration.isPresent {
      let usual = try configuration.isPresent ? 2 : tensors.matrix("\(types).weight").rows
      let typeCount = try configuration.size("type_vocab_size") ?? usual
      let segments = builder.embedding(
        types, builder.add("token_type_ids", .tokenTypeIDs), rowCount: typeCount, size: hidden)
      value = builder.add(prefix + "embeddings.sum", .add, value, segments)
    }
    value = norm(prefix + "emb_ln", value)
    let attention = try attention(configuration, hidden, heads)
    let configured = try configuration.size("num_hidden_layers", "n_layer")
    for index in try builder.countLayers(prefix + "encoder.layers.", configured: configured) {
      let layer = "\(prefix)encoder.layers.\(index)."
      var block = GraphBuilder.AttentionBlock(attention, hidden: hidden, bias: .denied)
      block.fused = layer + "attn.Wqkv"
      let attended = builder.attention(
        layer + "attn", value, block,
        linears: (layer + "attn.query", layer + "attn.key", layer + "attn.value", layer + "attn.out_proj"))
      value = norm(layer + "norm1", builder.add(layer + "attention_sum", .add, value, attended))

      let mlp = layer + "mlp."
      let gate = builder.linear(mlp + "fc12", value, hidden, inner, bias: .denied)
      let active = builder.add(mlp + "act", .activation(.silu), gate)
      let up = builder.linear(mlp + "fc11", value, hidden, inner, bias: .denied)
      let gated = builder.add(mlp + "gated", .multiply, active, up)
      let down = builder.linear(mlp + "fc2", gated, inner, hidden, bias: .denied)
      value = norm(layer + "norm2", builder.add(layer + "mlp_sum", .add, value, down))
    }
    builder.outputs["hidden"] = value
    builder.vocabularySize = vocabulary
    builder.contextLength = try configuration.size("max_position_embeddings", "n_positions")
    builder.missing = configuration.isPresent ? [] : ["layer_norm_eps", "rope_theta"]
    if heads == nil { builder.missing.append("num_attention_heads") }

    let task = configuration.task
    builder.pooler(value, hidden, isRequired: task == .sequenceClassification)
    if let task {
      let pooled = task == .sequenceClassification ? builder.outputs["pooled"] : nil
      try builder.classifier(task.linear, pooled ?? value, hidden, for: task)
    }
    let transform = "cls.predictions.transform."
    try builder.maskedHead(
      value, sizes,
      .init(
        dense: transform + "dense", activation: transform + "transform_act_fn", norm: transform + "layer_norm",
        decoder: "cls.predictions.decoder", bias: "cls.predictions.bias", kind: .silu))
  }

  /// Members whose only values are those of the published models.
  private static func checkMembers(_ configuration: Configuration) throws {
    let functions = ["hidden_act": "silu", "activation_function": "swiglu"]
    for (member, wanted) in functions.sorted(by: { $0.key < $1.key }) {
      if let name = try configuration.text(member), name != wanted {
        throw configuration.refusal("the activation '\(name)' is not supported")
      }
    }
    if let fraction = try configuration.number("rotary_emb_fraction", allowsZero: true), fraction != 1 {
      throw configuration.refusal("a rotation of a part of each head is not supported")
    }
    // How the original's code executes the same, and a length that it reads with a scaling alone.
    for name in ["fused_bias_fc", "max_trained_positions"] { _ = configuration.value(name) }
    try configuration.refuseDecoder()
  }

  private static func attention(_ configuration: Configuration, _ hidden: Int, _ heads: Int?) throws -> Attention {
    guard let heads else {
      return Attention(
        headCount: 0, keyValueHeadCount: 0, headSize: 0, isCausal: false,
        positions: .rotary(Rotary(theta: 1000, dimensions: 0)))
    }
    let headSize = try configuration.quotient(hidden, heads, "heads")
    guard try configuration.size("head_dim") ?? headSize == headSize else {
      throw configuration.refusal("heads that do not fill the width are not supported")
    }
    var members = Configuration.RotaryMembers()
    members.usualTheta = try configuration.number("rotary_emb_base") ?? 1000
    return Attention(
      headCount: heads, keyValueHeadCount: heads, headSize: headSize, isCausal: false,
      positions: .rotary(try configuration.rotary(headSize: headSize, members)))
  }
}
