import OTFoundation
import OTGraph
import OTJSON

/// What mlx-lm has to be told of a model beside its tensors, and what it does not compute.
///
/// It reads the members that config.json had before version 5 of transformers: bases and scalings of rotations at the
/// top, the period of Gemma 3's windows.
struct MLXFacts {
  /// `model_type` of the decoders that mlx-lm has of those that are converted.
  static let modelTypes = [
    "gemma", "gemma2", "gemma3_text", "granite", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3",
  ]

  /// Members of config.json to set; null: to leave out.
  private(set) var members = JSONObject()
  /// Where mlx-lm computes something else.
  private(set) var notes: [String] = []

  private let path: String
  private let type: String
  private let configuration: JSONObject

  /// - Throws: `Refusal` with rule `export-model-type`, `export-architecture`, `export-window`, `export-rotary` or
  ///   `export-head` for what mlx-lm does not compute.
  init(_ model: ExportedModel) throws {
    path = model.path
    configuration = try model.configuration()
    type = configuration["model_type"]?.string ?? ""
    guard Self.modelTypes.contains(type) else {
      throw refusal(
        "export-model-type",
        "models of the type '\(type)' are not written for mlx-lm; those of \(Self.modelTypes.joined(separator: ", ")) are",
        model.otherFormats)
    }
    try setRotation()
    guard let graph = model.graph else { return }
    let attentions = graph.nodes.compactMap { node in
      if case .attention(let attention) = node.operation { attention } else { nil }
    }
    try check(graph, attentions)
    try setWindows(attentions)
  }

  private func refusal(_ rule: String, _ message: String, _ remedy: String = "export it --to safetensors") -> Refusal {
    Refusal(rule, message, file: path, remedy: remedy)
  }

  /// Changes config.json.
  func describe(in configuration: inout JSONObject) {
    for (name, value) in members.members { configuration[name] = value == .null ? nil : value }
  }

  private mutating func check(_ graph: Graph, _ attentions: [Attention]) throws {
    let isGemma = type.hasPrefix("gemma")
    let usual: ActivationKind = isGemma ? .geluTanh : .silu
    for node in graph.nodes {
      switch node.operation {
      case .activation(let kind) where kind != usual:
        throw refusal("export-architecture", "'\(node.name)' is \(kind.rawValue), mlx-lm computes \(usual.rawValue)")
      case .softCap where type != "gemma2":
        throw refusal("export-architecture", "'\(node.name)' caps the logits, as mlx-lm does not")
      default: break
      }
    }
    let isCapped = graph.nodes.contains { if case .softCap = $0.operation { true } else { false } }
    guard attentions.allSatisfy({ ($0.softCap != nil) == (type == "gemma2") }), isCapped == (type == "gemma2") else {
      throw refusal(
        "export-architecture",
        type == "gemma2"
          ? "its logits or products are not capped, as mlx-lm does" : "the products of attention are capped")
    }
    // Their heads are their embeddings.
    if ["gemma", "gemma2"].contains(type), configuration["tie_word_embeddings"]?.bool == false {
      throw refusal("export-head", "mlx-lm's '\(type)' has no head but the embedding")
    }
    if ["gemma2", "gemma3_text"].contains(type), configuration["query_pre_attn_scalar"] == nil,
      let scale = attentions.first?.scale
    {
      members["query_pre_attn_scalar"] = .integer(Int((1 / (scale * scale)).rounded()))
    }
  }

  private mutating func setWindows(_ attentions: [Attention]) throws {
    let layers = SlidingLayers(attentions, configuration)
    if type == "gemma3_text" {
      guard let period = layers.period, period <= max(attentions.count, 1) else {
        throw refusal("export-window", "layers with a window come in no order that mlx-lm knows")
      }
      members["sliding_window_pattern"] = .integer(period)
      return
    }
    guard let window = attentions.lazy.compactMap(\.window).first else { return }
    // LLaMA's kinds go by `layer_types`, of which one at least must see all.
    if ["llama", "mistral", "smollm3"].contains(type), configuration["layer_types"] != nil {
      if layers.slides.contains(false) { return }
      members["layer_types"] = .null
    }
    notes.append(
      "mlx-lm lets tokens see more than the \(window) before them: it does not know the windows of '\(type)'")
  }

  // MARK: Rotations

  private mutating func setRotation() throws {
    guard let rotations = configuration["rope_parameters"]?.object else { return }
    // Both would say the same thing twice.
    members["rope_parameters"] = .null
    guard let whole = rotations["full_attention"]?.object else { return set(rotations) }
    // Gemma 3 has one for layers with a window, too, without a scaling.
    let local = rotations["sliding_attention"]
    guard (local?["rope_type"]?.string ?? "default") == "default" else {
      throw refusal("export-rotary", "windows have scaled rotations")
    }
    set(whole)
    members["rope_local_base_freq"] = local?["rope_theta"]
  }

  private mutating func set(_ rotation: JSONObject) {
    for name in ["rope_theta", "partial_rotary_factor", "original_max_position_embeddings"] {
      if configuration[name] == nil, let value = rotation[name] { members[name] = value }
    }
    let kind = rotation["rope_type"]?.string ?? "default"
    guard kind != "default", configuration["rope_scaling"]?.object == nil else { return }
    var scaling = rotation
    scaling["rope_theta"] = nil
    scaling["type"] = .string(kind)
    members["rope_scaling"] = .object(scaling)
  }
}
