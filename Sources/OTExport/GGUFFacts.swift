import OTCheckpoint
import OTFoundation
import OTGraph
import OTJSON
import OTTensor

/// What llama.cpp has to be told of a model beside its tensors.
struct GGUFFacts {
  let layout: GGUFLayout
  /// Keys but for those of the tokenizer.
  private(set) var keys: [(name: String, value: GGUFValue)] = []
  /// Tensors that no checkpoint has: divisors of the frequencies of rotations.
  private(set) var constants: [(entry: GGUFWriter.Entry, values: [Float])] = []

  /// Where llama.cpp computes something else of long texts.
  var notes: [String] {
    guard layout.name == "phi3", let window = attentions.lazy.compactMap(\.window).first else { return [] }
    return ["llama.cpp lets tokens of Phi-3 see more than the \(window) before them: it does not know their windows"]
  }

  /// True where llama.cpp has a head beside the embedding.
  var hasHead: Bool { !["gemma", "gemma2"].contains(layout.name) }

  private let path: String
  private let configuration: JSONObject
  private let attentions: [Attention]

  /// - Throws: `Refusal` with rule `export-model-type`, `export-architecture`, `export-window`, `export-rotary` or
  ///   `export-head` for what llama.cpp does not compute.
  init(_ model: ExportedModel, _ graph: Graph) throws {
    path = model.path
    configuration = try model.configuration()
    attentions = graph.nodes.compactMap { node in
      if case .attention(let attention) = node.operation { attention } else { nil }
    }
    let type = configuration["model_type"]?.string ?? ""
    guard let first = attentions.first, first.hasKnownHeads,
      let layout = GGUFLayout(
        modelType: type, headCount: first.headCount, keyValueHeadCount: first.keyValueHeadCount)
    else {
      throw Refusal(
        "export-model-type",
        "models of the type '\(type)' are not written for llama.cpp; written are "
          + GGUFLayout.names.keys.sorted().joined(separator: ", "), file: model.path,
        remedy: model.otherFormats)
    }
    self.layout = layout
    try check(graph)
    let members = members(graph, first)
    keys = [("general.architecture", .string(layout.name)), ("general.type", .string("model"))]
    keys += layout.keys(of: members)
    put("attention.head_count_kv", .integer(first.keyValueHeadCount))
    if !keys.contains(where: { $0.name == "\(layout.name).context_length" }) {
      put("context_length", .integer(configuration["seq_length"]?.integer ?? graph.contextLength ?? 2048))
    }
    if layout.name == "llama", let size = graph.vocabularySize { put("vocab_size", .integer(size)) }
    if layout.name == "bert" {
      put("attention.causal", .bool(false))
      put("pooling_type", .integer(try pooling(model)))
      let types = model.tensors.first { $0.name.hasSuffix("token_type_embeddings.weight") }?.shape.rowCount
      keys.append(("tokenizer.ggml.token_type_count", .integer(types ?? 1)))
    }
    try setRotation()
  }

  private mutating func put(_ key: String, _ value: GGUFValue) {
    let name = "\(layout.name).\(key)"
    keys.removeAll { $0.name == name }
    keys.append((name, value))
  }

  private func refusal(_ rule: String, _ message: String) -> Refusal {
    Refusal(rule, message, file: path, remedy: "export it --to safetensors")
  }

  /// True for a tensor without which llama.cpp computes the same.
  ///
  /// Of BERT it computes the hidden states: neither the pooler nor the head that predicts tokens.
  func mayLeaveOut(_ tensor: ExportedTensor) -> Bool {
    guard let node = tensor.use?.node else { return true }
    return layout.name == "bert" && (node.contains("pooler") || node.hasPrefix("cls."))
  }

  // MARK: What llama.cpp computes for this kind of model

  private func check(_ graph: Graph) throws {
    if let output = Graph.scoreOutputs.first(where: { $0 != "logits" && graph.outputs[$0] != nil }) {
      throw refusal("export-head", "its output is '\(output)', and llama.cpp would lose the classifier")
    }
    let usual: ActivationKind =
      switch layout.name {
      case "bert": .gelu
      case "bloom", "gemma", "gemma2", "gemma3": .geluTanh
      default: .silu
      }
    for node in graph.nodes {
      switch node.operation {
      case .activation(let kind) where kind != usual && kind != .tanh:
        throw refusal("export-architecture", "'\(node.name)' is \(kind.rawValue), llama.cpp computes \(usual.rawValue)")
      case .softCap where !["gemma2", "gemma3"].contains(layout.name):
        throw refusal("export-architecture", "'\(node.name)' caps the logits, as llama.cpp does not")
      default: break
      }
    }
    if configuration["apply_residual_connection_post_layernorm"]?.bool == true {
      throw refusal("export-architecture", "its residual stream takes the norms' values, as llama.cpp does not compute")
    }
    for attention in attentions {
      guard attention.headCount == attentions[0].headCount, attention.headSize == attentions[0].headSize,
        attention.keyValueHeadCount == attentions[0].keyValueHeadCount
      else { throw refusal("export-architecture", "its layers have different heads") }
      let isGemma = ["gemma2", "gemma3"].contains(layout.name)
      let largest = layout.name == "gemma2" ? 46 : 62
      let hidden = configuration["hidden_size"]?.integer ?? 0
      let size = isGemma && attentions.count == largest ? hidden / attention.headCount : attention.headSize
      guard abs(attention.scale * Float(size).squareRoot() - 1) < 1e-5 else {
        throw refusal("export-architecture", "the products of attention are scaled by \(attention.scale)")
      }
      guard attention.softCap == nil || layout.name == "gemma2" else {
        throw refusal("export-architecture", "the products of attention are capped")
      }
    }
    guard attentions.contains(where: { $0.window != nil }) else { return }
    guard layout.has("attention.sliding_window") else {
      throw refusal("export-window", "a token sees a window of others only, as llama.cpp does not compute")
    }
    if layout.name == "gemma2", period != 2 {
      throw refusal("export-window", "layers with a window and without do not alternate")
    }
    if layout.name == "gemma3", period == nil {
      throw refusal("export-window", "layers with a window come in no order that llama.cpp knows")
    }
  }

  /// As in `SlidingLayers`.
  private var period: Int? { SlidingLayers(attentions, configuration).period }

  // MARK: Members of config.json

  /// config.json's members by the names that the tables have, completed by what the graph says.
  private func members(_ graph: Graph, _ attention: Attention) -> JSONObject {
    var members = configuration
    func set(_ names: String..., to value: JSONValue?) {
      guard let value else { return }
      for name in names { members[name] = value }
    }
    var (inner, hidden): (Int?, Int?)
    var epsilon: Float?
    for node in graph.nodes {
      switch node.operation {
      case .embedding(let embedding) where hidden == nil: hidden = embedding.size
      case .rmsNorm(let norm), .layerNorm(let norm): if norm.groupSize == nil { epsilon = epsilon ?? norm.epsilon }
      case .linear(let linear):
        let name = layout.place(of: linear.weight.name, rowCount: linear.outFeatures)?.name ?? ""
        if name.hasSuffix(".ffn_down.weight") { inner = inner ?? linear.inFeatures }
      default: break
      }
    }
    set("hidden_size", to: hidden.map { .integer($0) })
    set("num_hidden_layers", "n_layer", to: .integer(attentions.count))
    set("intermediate_size", "n_inner", to: inner.map { .integer($0) })
    set("num_attention_heads", "n_head", to: .integer(attention.headCount))
    set("num_key_value_heads", to: .integer(attention.keyValueHeadCount))
    set("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", to: epsilon.map { .number(Double($0)) })
    if case .rotary(let rotary) = attention.positions {
      set("head_dim", to: .integer(attention.headSize))
      set("rope_theta", to: .number(rotary.theta))
      members["rope_local_base_freq"] = nil
    } else {
      members["head_dim"] = nil
    }
    members["sliding_window_pattern"] = nil
    if layout.name == "gemma3" {
      members["sliding_window_pattern"] = period.map { .integer($0) }
      let (local, whole) = thetas
      set("rope_theta", to: .number(whole))
      set("rope_local_base_freq", to: local.map { .number($0) })
    }
    if layout.name == "phi3", !attentions.contains(where: { $0.window != nil }) { members["sliding_window"] = nil }
    if let cap = attentions.lazy.compactMap(\.softCap).first {
      set("attn_logit_softcapping", to: .number(Double(cap)))
    }
    return members
  }

  /// Whether each layer of a Gemma 3 sees a window.
  private var windows: [Bool] {
    guard let period else { return attentions.map { $0.window != nil } }
    return attentions.indices.map { ($0 + 1) % period != 0 }
  }

  /// The bases of the rotations of layers with a window and of the others.
  private var thetas: (local: Double?, whole: Double) {
    func theta(_ isLocal: Bool) -> Double? {
      for (attention, slides) in zip(attentions, windows) where slides == isLocal {
        if case .rotary(let rotary) = attention.positions { return rotary.theta }
      }
      return nil
    }
    return (theta(true), theta(false) ?? theta(true) ?? 10_000)
  }

  /// 0 none, 1 the mean, 2 the first token, 3 the last.
  private func pooling(_ model: ExportedModel) throws -> Int {
    guard let pooling = try model.files.first(where: { $0.name.hasSuffix("Pooling/config.json") })?.json() else {
      return 0
    }
    for (name, type) in [("mean_tokens", 1), ("cls_token", 2), ("lasttoken", 3)] {
      if pooling["pooling_mode_\(name)"]?.bool == true { return type }
    }
    return 0
  }

  // MARK: Rotations

  private mutating func setRotation() throws {
    guard case .rotary(var rotary)? = attentions.first?.positions else { return }
    if layout.name == "gemma3" {
      // Layers with a window have no scaling of their own.
      for (attention, slides) in zip(attentions, windows) {
        guard case .rotary(let own) = attention.positions else { continue }
        if !slides { rotary = own }
        guard !slides || own.scaling == .none else { throw refusal("export-rotary", "windows have scaled rotations") }
      }
    } else {
      for attention in attentions where attention.positions != .rotary(rotary) {
        throw refusal("export-rotary", "its layers are rotated in different ways")
      }
    }
    let size = attentions[0].headSize
    put("attention.value_length", .integer(size))
    guard rotary.dimensions == size || layout.name == "phi3" else {
      throw refusal("export-rotary", "\(rotary.dimensions) of a head's \(size) channels are rotated")
    }
    put("rope.dimension_count", .integer(rotary.dimensions))
    func constant(_ name: String, _ values: [Float]) {
      guard let shape = Shape([values.count]) else { return }
      constants.append((GGUFWriter.Entry(name: name, shape: shape, type: .f32), values))
    }
    switch rotary.scaling {
    case .none: break
    case .linear(let factor):
      put("rope.scaling.type", .string("linear"))
      put("rope.scaling.factor", .number(factor))
    case .llama3:
      let plain = Rotary(theta: rotary.theta, dimensions: rotary.dimensions).frequencies
      constant("rope_freqs.weight", zip(plain, rotary.frequencies).map { Float($0 / $1) })
    case .longrope(let short, let long, let length, let amplitude):
      put("rope.scaling.original_context_length", .integer(length))
      put("rope.scaling.attn_factor", .number(amplitude))
      constant("rope_factors_long.weight", long.map { Float($0) })
      constant("rope_factors_short.weight", short.map { Float($0) })
    case .divided:
      throw refusal("export-rotary", "rotations by YaRN are not written for llama.cpp")
    }
  }
}
