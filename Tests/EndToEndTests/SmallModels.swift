import Foundation
import OTCheckpoint
import OTFoundation
import OTJSON
import OTTensor
import _OTTestSupport

/// Folders of small models that differ from `llama-mini`, or from `bert-mini`, in one thing.
enum SmallModels {
  /// Members of config.json that a variant changes; null takes them away.
  private static let members: [String: JSONObject] = [
    "unknown-type": ["model_type": .string("perceiver"), "architectures": .array([.string("PerceiverModel")])],
    "recurrent-type": ["model_type": .string("mamba2"), "architectures": .array([.string("Mamba2ForCausalLM")])],
    "unknown-activation": ["hidden_act": .string("squish")], "other-member": ["embedding_multiplier": .integer(3)],
    "other-architecture": ["architectures": .array([.string("LlamaBiModel")])],
    "own-code": ["auto_map": .object(["AutoModelForCausalLM": .string("modeling.Model")])],
    "more-layers": ["num_hidden_layers": .integer(9)],
    "said-to-be-quantized": ["quantization_config": .object(["quant_method": .string("hqq")])],
    "unnamed": ["architectures": .null, "pad_token_id": .integer(1)],
    "named": ["architectures": .array([.string("BertModel")]), "pad_token_id": .integer(1)],
  ]

  /// Makes the folder, or changes what it holds.
  static func make(_ variant: String, at path: String) throws {
    let manager = FileManager.default
    try? manager.removeItem(atPath: path)
    try manager.createDirectory(atPath: path, withIntermediateDirectories: true)
    let fixture = variant.hasSuffix("named") ? Fixture.bert : .llama
    if variant == "makers" { return try makers(at: path) }
    if variant == "answers" { return try answers(at: path) }
    for name in ["model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
      if variant == "no-tokenizer", name.hasPrefix("tokenizer") { continue }
      try manager.createSymbolicLink(atPath: "\(path)/\(name)", withDestinationPath: fixture.path(name))
    }
    guard variant != "no-configuration" else { return }
    var configuration = try JSONValue.parse(contentsOf: MappedFile(path: fixture.path("config.json"))).object ?? [:]
    for (key, value) in members[variant]?.members ?? [] { configuration[key] = value == .null ? nil : value }
    let text = JSONValue.object(configuration).text(pretty: true)
    try Data(text.utf8).write(to: URL(fileURLWithPath: path + "/config.json"))
  }

  /// `bert-classifier-mini`, whose classifier stands for a head for answers.
  private static func answers(at path: String) throws {
    let source = Fixtures.path("models/bert-classifier-mini")
    for name in ["tokenizer.json", "tokenizer_config.json"] {
      try FileManager.default.createSymbolicLink(
        atPath: "\(path)/\(name)", withDestinationPath: "\(source)/\(name)")
    }
    let tensors = try Checkpoint.open(source).tensors
    let entries = tensors.map { tensor in
      let name = tensor.name.replacingOccurrences(of: "classifier.", with: "qa_outputs.")
      return SafetensorsWriter.Entry(name: name, elementType: tensor.elementType, shape: tensor.shape)
    }
    var writer = try SafetensorsWriter(path: path + "/model.safetensors", entries: entries)
    for view in tensors { try writer.append(view) }
    try writer.commit()
    try String(contentsOfFile: source + "/config.json", encoding: .utf8)
      .replacingOccurrences(of: "ForSequenceClassification", with: "ForQuestionAnswering")
      .write(toFile: path + "/config.json", atomically: true, encoding: .utf8)
  }

  /// A file with the names of tensors that Meta and Mistral give them.
  private static func makers(at path: String) throws {
    let names = [
      "tok_embeddings.weight", "layers.0.attention.wq.weight", "layers.0.feed_forward.w1.weight", "output.weight",
    ]
    let tensors = try Checkpoint.open(Fixture.llama.folder).tensors.filter { $0.shape.rank == 2 }
    let entries = zip(names, tensors).map { name, tensor in
      SafetensorsWriter.Entry(name: name, elementType: tensor.elementType, shape: tensor.shape)
    }
    var writer = try SafetensorsWriter(path: path + "/model.safetensors", entries: entries)
    for (_, tensor) in zip(names, tensors) { try writer.append(tensor) }
    try writer.commit()
  }
}
