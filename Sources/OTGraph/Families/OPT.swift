import OTFoundation
import OTJSON

/// OPT (Zhang et al., arXiv:2205.01068), Galactica included.
///
/// Norms stand before attention and MLP, or (opt-350m:
/// `do_layer_norm_before: false`) after the residual additions. Embeddings may
/// be narrower than the blocks, with projections on both sides.
package enum OPTFamily: ModelFamily {
  /// The family's name.
  package static let name = "opt"
  /// Values of `model_type` in config.json.
  package static let modelTypes = ["opt"]

  private static let prefixes = ["model.decoder.", "decoder.", "model.model.decoder."]

  /// Whether a checkpoint without configuration has this family's names.
  package static func recognizes(tensorNames: Set<String>) -> Bool {
    prefixes.contains {
      tensorNames.contains($0 + "embed_positions.weight")
        && tensorNames.contains($0 + "layers.0.fc1.weight")
    }
  }

  /// The model as a graph.
  package static func graph(configuration: JSONValue?, tensors: TensorCatalog) throws -> Graph {
    let configuration = try Configuration(configuration, file: tensors.file)
    let prefix = tensors.prefix(of: prefixes, with: "embed_tokens.weight")
    let table = prefix + "embed_tokens.weight"
    let positions = prefix + "embed_positions.weight"
    let found = try tensors.matrix(table)
    let foundPositions = try tensors.matrix(positions)
    // Two rows come before that of position 0, for padding.
    let rowOffset = 2
    let hidden = try configuration.size("hidden_size") ?? foundPositions.columns
    let embeddingSize = try configuration.size("word_embed_proj_dim") ?? found.columns
    let vocabulary = try configuration.size("vocab_size") ?? found.rows
    let contextLength =
      try configuration.size("max_position_embeddings") ?? max(foundPositions.rows - rowOffset, 1)
    let layer0 = prefix + "layers.0."
    // Old configurations leave these flags out; the model then has the parameters.
    let hasBias =
      try configuration.flag("enable_bias")
      ?? (configuration.isPresent || tensors[layer0 + "fc1.bias"] != nil)
    let inner = try configuration.size("ffn_dim") ?? tensors.matrix(layer0 + "fc1.weight").rows
    let hasNormParameters =
      try configuration.flag("layer_norm_elementwise_affine")
      ?? (configuration.isPresent || tensors[layer0 + "final_layer_norm.weight"] != nil)
    let finalNorm = prefix + "final_layer_norm"
    let normsBefore =
      try configuration.flag("do_layer_norm_before")
      ?? (configuration.isPresent || tensors[finalNorm + ".weight"] != nil)
    let removesFinalNorm =
      try configuration.flag("_remove_final_layer_norm")
      ?? (!configuration.isPresent && tensors[finalNorm + ".weight"] == nil)
    let activation = try configuration.activation("activation_function") ?? .relu
    let heads = try configuration.size("num_attention_heads")
    let headSize = try heads.map { try configuration.quotient(hidden, $0, "heads") } ?? 0
    let attention = Attention(
      headCount: heads ?? 0, keyValueHeadCount: heads ?? 0, headSize: headSize, isCausal: true,
      positions: .none)

    var builder = GraphBuilder(tensors)
    let tokens = builder.add("token_ids", .tokenIDs)
    let positionIDs = builder.add("position_ids", .positionIDs)
    var value = builder.embedding(
      prefix + "embed_tokens", tokens, rowCount: vocabulary, size: embeddingSize)
    if embeddingSize != hidden {
      value = builder.linear(
        prefix + "project_in", value, embeddingSize, hidden, role: .head)
    }
    let position = builder.embedding(
      prefix + "embed_positions", positionIDs, rowCount: contextLength + rowOffset, size: hidden,
      rowOffset: rowOffset)
    value = builder.add(prefix + "embeddings", .add, value, position)

    func norm(_ name: String, _ input: String) -> String {
      builder.layerNorm(
        name, input, size: hidden, epsilon: 1e-5, hasParameters: hasNormParameters)
    }
    let configured = try configuration.size("num_hidden_layers")
    for index in 0..<(try tensors.layerCount(prefix: prefix + "layers.", configured: configured)) {
      let layer = prefix + "layers.\(index)."
      let block = layer + "self_attn."
      var input = value
      if normsBefore { input = norm(layer + "self_attn_layer_norm", value) }
      let projections = ["q_proj", "k_proj", "v_proj"].map {
        builder.linear(block + $0, input, hidden, hidden, needsBias: hasBias)
      }
      let mixed = builder.add(
        layer + "self_attn", .attention(attention), projections[0], projections[1], projections[2])
      let attended = builder.linear(block + "out_proj", mixed, hidden, hidden, needsBias: hasBias)
      value = builder.add(layer + "attention_sum", .add, value, attended)
      if !normsBefore { value = norm(layer + "self_attn_layer_norm", value) }

      input = value
      if normsBefore { input = norm(layer + "final_layer_norm", value) }
      let first = builder.linear(layer + "fc1", input, hidden, inner, needsBias: hasBias)
      let active = builder.add(layer + "activation_fn", .activation(activation), first)
      let second = builder.linear(layer + "fc2", active, inner, hidden, needsBias: hasBias)
      value = builder.add(layer + "mlp_sum", .add, value, second)
      if !normsBefore { value = norm(layer + "final_layer_norm", value) }
    }
    if normsBefore && !removesFinalNorm { value = norm(finalNorm, value) }
    if embeddingSize != hidden {
      value = builder.linear(prefix + "project_out", value, hidden, embeddingSize, role: .head)
    }
    let logits = builder.head("lm_head", value, embeddingSize, vocabulary, table: .named(table))
    try builder.checkTensors()
    var missing = configuration.isPresent ? [] : ["activation_function"]
    if heads == nil { missing.append("num_attention_heads") }
    return try Graph(
      family: name, nodes: builder.nodes, outputs: ["logits": logits],
      vocabularySize: vocabulary, contextLength: contextLength,
      missing: missing, file: tensors.file)
  }
}
