import Foundation
import OTCheckpoint
import OTFoundation
import OTJSON
import OTTensor

/// A LLaMA checkpoint of random float16 weights, sharded, in the layout of Hugging Face.
struct RandomCheckpoint {
  let hiddenSize: Int
  let intermediateSize: Int
  let layerCount: Int
  let vocabularySize: Int

  /// About 4 GB: 2.0 billion float16 weights.
  static let large = RandomCheckpoint(
    hiddenSize: 2048, intermediateSize: 5632, layerCount: 42, vocabularySize: 32_000)

  /// About so many weights, a tenth of them or less in embedding and head.
  init(weightCount: Int) {
    hiddenSize =
      switch weightCount {
      case ..<20_000_000: 256
      case ..<60_000_000: 512
      case ..<200_000_000: 768
      case ..<600_000_000: 1024
      default: 2048
      }
    intermediateSize = hiddenSize * 11 / 4
    vocabularySize = max(256, min(32_000, weightCount / 20 / hiddenSize))
    let layer = hiddenSize * hiddenSize * 5 / 2 + 3 * hiddenSize * intermediateSize
    layerCount = max(1, (weightCount - 2 * vocabularySize * hiddenSize + layer / 2) / layer)
  }

  /// A checkpoint of these sizes.
  init(hiddenSize: Int, intermediateSize: Int, layerCount: Int, vocabularySize: Int) {
    (self.hiddenSize, self.intermediateSize) = (hiddenSize, intermediateSize)
    (self.layerCount, self.vocabularySize) = (layerCount, vocabularySize)
  }

  private typealias Entry = SafetensorsWriter.Entry

  /// Writes the checkpoint into an existing folder, a shard for every 6 layers.
  ///
  /// - Throws: `Refusal` when it cannot be written.
  func write(to folder: String) throws {
    let layersPerShard = 6
    let shardCount = (layerCount + layersPerShard - 1) / layersPerShard
    var weightMap = JSONObject()
    for shard in 0..<shardCount {
      let layers = shard * layersPerShard..<min((shard + 1) * layersPerShard, layerCount)
      var entries = layers.flatMap(layerEntries)
      if shard == 0 { entries.append(entry("model.embed_tokens.weight", [vocabularySize, hiddenSize])) }
      if shard == shardCount - 1 {
        entries.append(entry("model.norm.weight", [hiddenSize]))
        entries.append(entry("lm_head.weight", [vocabularySize, hiddenSize]))
      }
      let name = String(format: "model-%05d-of-%05d.safetensors", shard + 1, shardCount)
      for entry in entries { weightMap[entry.name] = .string(name) }
      var writer = try SafetensorsWriter(path: folder + "/" + name, entries: entries)
      // One block of random numbers, begun at another place for every tensor:
      // the compressor sees no tensor twice.
      for (index, entry) in entries.enumerated() {
        var remaining = entry.shape.elementCount * 2
        var start = (shard * 131 + index * 17) * 4096 % RandomCheckpoint.block.count
        while remaining > 0 {
          let count = min(remaining, RandomCheckpoint.block.count - start)
          try RandomCheckpoint.block[start..<start + count].withUnsafeBytes { try writer.append($0) }
          remaining -= count
          start = 0
        }
      }
      try writer.commit()
    }
    try write(
      .object(["metadata": .object([:]), "weight_map": .object(weightMap)]), folder + "/model.safetensors.index.json")
    try write(
      .object([
        "model_type": .string("llama"), "hidden_size": .integer(hiddenSize),
        "intermediate_size": .integer(intermediateSize), "num_hidden_layers": .integer(layerCount),
        "num_attention_heads": .integer(hiddenSize / 64), "num_key_value_heads": .integer(hiddenSize / 256),
        "rms_norm_eps": .number(1e-5), "max_position_embeddings": .integer(8192),
        "vocab_size": .integer(vocabularySize), "tie_word_embeddings": .bool(false), "hidden_act": .string("silu"),
      ]), folder + "/config.json")
  }

  private func layerEntries(_ layer: Int) -> [Entry] {
    let prefix = "model.layers.\(layer)."
    return [
      entry(prefix + "input_layernorm.weight", [hiddenSize]),
      entry(prefix + "self_attn.q_proj.weight", [hiddenSize, hiddenSize]),
      entry(prefix + "self_attn.k_proj.weight", [hiddenSize / 4, hiddenSize]),
      entry(prefix + "self_attn.v_proj.weight", [hiddenSize / 4, hiddenSize]),
      entry(prefix + "self_attn.o_proj.weight", [hiddenSize, hiddenSize]),
      entry(prefix + "post_attention_layernorm.weight", [hiddenSize]),
      entry(prefix + "mlp.gate_proj.weight", [intermediateSize, hiddenSize]),
      entry(prefix + "mlp.up_proj.weight", [intermediateSize, hiddenSize]),
      entry(prefix + "mlp.down_proj.weight", [hiddenSize, intermediateSize]),
    ]
  }

  private func entry(_ name: String, _ dimensions: [Int]) -> Entry {
    guard let shape = Shape(dimensions) else { preconditionFailure("shapes here are small") }
    return Entry(name: name, elementType: .f16, shape: shape)
  }

  private func write(_ json: JSONValue, _ path: String) throws {
    let file = try AtomicFile(path: path)
    try file.append(Array(json.text().utf8))
    try file.commit()
  }

  /// 32 MiB of normally distributed float16 of deviation 0.02.
  private static let block: [UInt8] = {
    var state: UInt64 = 1
    func uniform() -> Float {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return (Float(state >> 40) + 1) / Float(1 << 24)
    }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(32 << 20)
    for _ in 0..<8 << 20 {
      // Box and Muller's transform: two at a time.
      let radius = 0.02 * (-2 * log(uniform())).squareRoot(), angle = 2 * Float.pi * uniform()
      for value in [radius * cos(angle), radius * sin(angle)] {
        let bits = Float16(value).bitPattern
        bytes.append(UInt8(bits & 0xFF))
        bytes.append(UInt8(bits >> 8))
      }
    }
    return bytes
  }()
}
