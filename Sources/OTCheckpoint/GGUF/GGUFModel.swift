import OTFoundation
import OTJSON
import OTTensor

/// The model in a GGUF file or a set of them, in the form that the rest reads: its tensors under the names of
/// the original, and the files that would lie beside it.
struct GGUFModel {
  /// The file with the keys comes first.
  let files: [GGUFFile]
  /// llama.cpp's name of the kind of model.
  let architectureName: String
  let architecture: GGUFArchitecture

  var tensors: [TensorView] = []
  private(set) var warnings: [String] = []

  /// - Throws: `Refusal` with a rule `gguf-…`.
  init(_ files: [GGUFFile]) throws {
    self.files = files
    let first = files[0]
    if let type = first.values["general.type"]?.string, type != "model" {
      throw first.refusal(
        "gguf-not-model", "is of type '\(type.prefix(40))', not a model", remedy: "give the file of the model itself")
    }
    guard let name = first.values["general.architecture"]?.string else {
      throw first.refusal("gguf-key", "has no key 'general.architecture'")
    }
    let hasExperts = (first.values["\(name).expert_count"]?.integer ?? 0) > 0
    let hasTwoNorms = files.contains { $0.tensors.contains { $0.name == "blk.0.attn_norm_2.weight" } }
    guard let architecture = GGUFArchitecture.named(name, hasExperts: hasExperts, hasTwoNorms: hasTwoNorms) else {
      let known = GGUFArchitecture.all.keys.sorted().joined(separator: ", ")
      throw first.refusal(
        "gguf-architecture",
        "models of the architecture '\(name.prefix(40))' are not read from GGUF; read are: \(known)",
        remedy: "convert the checkpoint that it was made from")
    }
    architectureName = name
    self.architecture = architecture
    for file in files { for tensor in file.tensors { try add(tensor, of: file) } }
    try joinLatentParts()
    try joinClampedExperts()
  }

  private var first: GGUFFile { files[0] }

  func key(_ name: String) -> GGUFValue? { first.values["\(architectureName).\(name)"] }

  /// A size that a key of the architecture states.
  ///
  /// - Throws: `Refusal` with rule `gguf-key`.
  func size(_ name: String) throws -> Int? {
    guard let value = key(name) else { return nil }
    guard let size = value.integer, (1...Int(Int32.max)).contains(size) else {
      throw first.refusal("gguf-key", "'\(architectureName).\(name)' is not an integer in 1...2^31")
    }
    return size
  }

  // MARK: Tensors

  /// Tensors of rotations, which the configuration takes up.
  private static let rotations: Set<String> = [
    "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight",
  ]

  private mutating func add(_ tensor: GGUFFile.Tensor, of file: GGUFFile) throws {
    guard !Self.rotations.contains(tensor.name) else { return }
    guard let found = architecture.original(of: tensor.name) else {
      throw file.refusal(
        "gguf-tensor", "is none of those that a model of the architecture '\(architectureName)' has",
        tensor: tensor.name, remedy: "convert the checkpoint that it was made from")
    }
    tensors += try originals(tensor, of: file, found.place, architecture.changes[found.stem])
  }

  /// The names of the quantized types, the most frequent first; nil where all elements are plain floats.
  var quantization: String? {
    var counts: [String: Int] = [:]
    for tensor in files.flatMap(\.tensors) where tensor.type.elementType == nil {
      counts["\(tensor.type)", default: 0] += 1
    }
    guard !counts.isEmpty else { return nil }
    return "GGUF, " + counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map(\.key).joined(separator: ", ")
  }

  // MARK: config.json

  /// config.json of the same model.
  ///
  /// - Throws: `Refusal` with rule `gguf-key` for keys that are not understood, or make no sense.
  func configuration() throws -> JSONValue {
    var members: JSONObject = [
      "architectures": .array([.string(architecture.className)]), "model_type": .string(architecture.modelType),
    ]
    for (key, value) in architecture.constants.members { members[key] = value }
    for name in first.values.keys.sorted() where name.hasPrefix(architectureName + ".") {
      let key = String(name.dropFirst(architectureName.count + 1))
      guard let member = architecture.members[key] else {
        guard architecture.otherKeys.contains(key) else {
          throw first.refusal(
            "gguf-key", "'\(name.prefix(100))' is not understood, and may change the model",
            remedy: "convert the checkpoint that it was made from")
        }
        continue
      }
      switch first.values[name] {
      case .integer(let value): members[member] = .integer(value)
      case .number(let value) where value.isFinite: members[member] = .number(value)
      case .bool(let value): members[member] = .bool(value)
      case .bools(let slides) where member == "sliding_window_pattern":
        members["layer_types"] = .array(slides.map { .string($0 ? "sliding_attention" : "full_attention") })
      default: throw first.refusal("gguf-key", "'\(name)' is not a number")
      }
    }
    try check()
    let views = Dictionary(tensors.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    if let table = architecture.outer["token_embd"].flatMap({ views[$0 + ".weight"] }) {
      members["vocab_size"] = .integer(table.shape.rowCount)
    }
    if let output = architecture.outer["output"] {
      members["tie_word_embeddings"] = .bool(views[output + ".weight"] == nil)
    }
    if let types = architecture.outer["token_types"].flatMap({ views[$0 + ".weight"] }) {
      members["type_vocab_size"] = .integer(types.shape.rowCount)
    }
    try architecture.finish(self, &members)
    for (member, key) in [
      ("bos_token_id", "bos_token_id"), ("eos_token_id", "eos_token_id"), ("pad_token_id", "padding_token_id"),
    ] {
      if let id = first.values["tokenizer.ggml.\(key)"]?.integer { members[member] = .integer(id) }
    }
    if let count = architecture.layersOfLargest { try setScale(&members, layersOfLargest: count) }
    try setRotation(&members)
    return .object(members)
  }

  /// Keys that could mean another model than the one whose members are written.
  private func check() throws {
    if let experts = key("expert_count")?.integer, experts > 0, !architecture.hasExperts {
      throw refusal(ofKey: "expert_count", "says that it is a mixture of experts, which is not read from GGUF")
    }
    let isCausal = key("attention.causal")?.bool ?? !architecture.isEncoder
    guard isCausal == !architecture.isEncoder else {
      throw refusal(ofKey: "attention.causal", "is not what it is for this architecture")
    }
    if architecture.members["attention.kv_lora_rank"] == nil, let values = try size("attention.value_length"),
      let keys = try size("attention.key_length"), values != keys
    {
      throw refusal(ofKey: "attention.value_length", "differs from that of keys")
    }
    if ["bloom", "gpt2", "bert", "nomic-bert", "gptneox"].contains(architectureName),
      let shared = try size("attention.head_count_kv"), try shared != size("attention.head_count")
    {
      throw refusal(ofKey: "attention.head_count_kv", "differs from the number of heads")
    }
  }
}
