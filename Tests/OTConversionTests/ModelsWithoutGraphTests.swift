import Foundation
import OTCheckpoint
import OTConversion
import OTFoundation
import OTModel
import OTTensor
import OTVerify
import Testing
import _OTModelSupport
import _OTTestSupport

/// What the refusals of families advise, tried.
@Suite struct ModelsWithoutGraphTests {
  private func plan(_ checkpoint: Checkpoint, isWeightsOnly: Bool) throws -> ConversionPlan {
    var options = ConversionOptions()
    options.isWeightsOnly = isWeightsOnly
    return try ConversionPlan(checkpoint: checkpoint, options: options)
  }

  private func rule(_ checkpoint: Checkpoint, isWeightsOnly: Bool) throws -> String {
    try #require(
      #expect(throws: Refusal.self) { _ = try plan(checkpoint, isWeightsOnly: isWeightsOnly) }
    ).rule
  }

  /// The family is known, and its configuration is not.
  @Test(arguments: [
    ("family-member", #""embedding_multiplier": 12.0"#), ("family-configuration", #""partial_rotary_factor": 0.5"#),
    ("family-code", #""auto_map": {"AutoModel": "x.Y"}"#), ("family-unknown", #""model_type": "perceiver""#),
    ("family-recurrent", #""model_type": "mamba""#),
    ("family-tensors", #""num_hidden_layers": 5"#),
  ])
  func weightsAloneArePackedWhateverTheModel(_ wanted: String, _ member: String) throws {
    let name = String(member.dropFirst().prefix { $0 != "\"" })
    let text = try String(contentsOfFile: Fixture.llama.path("config.json"), encoding: .utf8)
      .replacingOccurrences(of: "\"\(name)\"", with: "\"was_\(name)\"")
    let configuration = "{\(member)," + text.drop { $0 == "{" }
    try Fixture.llama.withCopy(["config.json": configuration]) { folder in
      let checkpoint = try Checkpoint.open(folder)
      #expect(try rule(checkpoint, isWeightsOnly: false) == wanted)
      let plan = try plan(checkpoint, isWeightsOnly: true)
      #expect(plan.graph == nil && plan.warnings.last?.hasSuffix("the file cannot be run") == true)
      try Converter(plan).run(to: folder + "/model.otq")
      let packed = try PackedModel(path: folder + "/model.otq").container.tensors
      #expect(packed.map(\.name).sorted() == checkpoint.tensors.map(\.name).sorted())
      for tensor in packed { #expect(tensor.shape == checkpoint[tensor.name]?.shape) }
    }
  }

  /// Recurrent and hybrid models are refused by their names, and what the refusal advises packs them: matrices, the
  /// kernels of convolutions, vectors of states.
  @Test(arguments: [
    "bamba", "falcon_h1", "falcon_mamba", "jamba", "kimi_linear", "lfm2", "lfm2_moe", "mamba", "mamba2", "minimax",
    "minimax_m1", "nemotron_h", "qwen3_5", "qwen3_next", "recurrent_gemma", "rwkv", "rwkv7", "zamba", "zamba2",
    "granitemoehybrid",
  ])
  func recurrentModelsArePackedWithoutAGraph(_ type: String) throws {
    try withTemporaryFolder { folder in
      var builder = CheckpointBuilder()
      func add(_ name: String, _ shape: [Int]) {
        let count = shape.reduce(1, *)
        builder.add(name, shape, floats: (0..<count).map { Float(($0 * 37) % 101) / 50 - 1 })
      }
      add("model.embed_tokens.weight", [40, 32])
      for layer in ["model.layers.0.", "model.layers.1."] {
        add(layer + "mixer.in_proj.weight", [80, 32])
        add(layer + "mixer.conv1d.weight", [64, 1, 4])
        add(layer + "mixer.A_log", [16])
        add(layer + "mixer.out_proj.weight", [32, 64])
        add(layer + "norm.weight", [32])
        for expert in 0..<2 { add(layer + "feed_forward.experts.\(expert).down_proj.weight", [32, 48]) }
        add(layer + "feed_forward.stacked_experts", [3, 32, 48])
      }
      let source = folder + "/model"
      try FileManager.default.createDirectory(atPath: source, withIntermediateDirectories: true)
      _ = try builder.write(to: source + "/model.safetensors")
      let configuration =
        type == "granitemoehybrid"
        ? #"{"model_type": "granitemoehybrid", "num_local_experts": 0, "hidden_size": 32, "shared_intermediate_size": 48, "#
          + #""num_hidden_layers": 2, "num_attention_heads": 2, "layer_types": ["mamba", "attention"]}"#
        : #"{"model_type": "\#(type)", "hidden_size": 32}"#
      try Data(configuration.utf8).write(to: URL(fileURLWithPath: source + "/config.json"))
      let checkpoint = try Checkpoint.open(source)
      let refusal = try #require(
        #expect(throws: Refusal.self) { _ = try plan(checkpoint, isWeightsOnly: false) })
      #expect(refusal.message.contains(type == "granitemoehybrid" ? "'mamba'" : "'\(type)'"), "\(refusal)")
      #expect(refusal.message.contains("state"), "\(refusal)")
      #expect(refusal.rule == (type == "granitemoehybrid" ? "family-configuration" : "family-recurrent"))
      #expect(refusal.remedy?.contains("--weights-only") == true)

      var options = ConversionOptions()
      options.isWeightsOnly = true
      let packed = try convert(checkpoint, options, to: folder + "/model.otq")
      let verification = try WeightVerification(of: packed, reference: SourceModel(path: source))
      #expect(verification.hasPassed, "\(verification.offenders)")
      for tensor in packed.container.tensors {
        let isMatrix = ["_proj.weight", "embed_tokens.weight", "stacked_experts"].contains(where: tensor.name.hasSuffix)
        #expect((tensor.scheme != nil) == isMatrix, "\(tensor.name)")
      }
      try unpack(packed, to: folder + "/unpacked.safetensors")
      let unpacked = try Checkpoint.open(folder + "/unpacked.safetensors")
      for view in checkpoint.tensors { #expect(unpacked[view.name]?.shape == view.shape) }
    }
  }

  /// Without config.json the experts of each family are packed, each with scales of its own; their family is refused.
  @Test(arguments: [
    "mixtral", "qwen2moe", "qwen3moe", "gptoss", "gptoss-mxfp4", "deepseek2", "deepseek3", "deepseek3-fp8",
  ])
  func expertsWithoutConfigurationArePacked(_ name: String) throws {
    try withTemporaryFolder { folder in
      let source = folder + "/model"
      try FileManager.default.createDirectory(atPath: source, withIntermediateDirectories: true)
      try FileManager.default.copyItem(
        atPath: Fixtures.path("models/families/\(name)/model.safetensors"), toPath: source + "/model.safetensors")
      let checkpoint = try Checkpoint.open(source)
      let refusal = try rule(checkpoint, isWeightsOnly: false)
      #expect(refusal == "family-configuration" || refusal == "family-quantized", "\(refusal)")
      // Codes without the configuration that says what they are stay refused.
      guard refusal != "family-quantized" else { return }
      var options = ConversionOptions()
      options.isWeightsOnly = true
      let packed = try convert(checkpoint, options, to: folder + "/model.otq")
      let verification = try WeightVerification(of: packed, reference: SourceModel(path: source))
      #expect(verification.hasPassed, "\(verification.offenders)")
      let experts = packed.container.tensors.filter { $0.name.contains(".experts.") && !$0.name.hasSuffix("bias") }
      #expect(!experts.isEmpty && experts.allSatisfy { $0.scheme != nil })
      try unpack(packed, to: folder + "/unpacked.safetensors")
      let unpacked = try Checkpoint.open(folder + "/unpacked.safetensors")
      for view in checkpoint.tensors { #expect(unpacked[view.name]?.shape == view.shape) }
    }
  }

  /// The matrices of a stack have scales of their own, whatever they are made of; embeddings have their own bits.
  @Test(arguments: ["gptoss", "gptoss-mxfp4"], [8, 16])
  func stacksOfExpertsArePacked(_ name: String, _ embeddingBits: Int) throws {
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      try FileManager.default.copyItem(atPath: Fixtures.path("models/families/\(name)"), toPath: model)
      let text = try String(contentsOfFile: model + "/config.json", encoding: .utf8)
      try text.replacingOccurrences(of: "\"gpt_oss\"", with: "\"mystery\"")
        .write(toFile: model + "/config.json", atomically: true, encoding: .utf8)
      let source = try SourceModel(path: model)
      var options = ConversionOptions()
      (options.bits, options.embeddingBits, options.isWeightsOnly) = (4, embeddingBits, true)
      let packed = try convert(source.checkpoint, options, to: folder + "/model.otq")
      #expect(packed.graph == nil)
      var stackCount = 0
      for view in source.checkpoint.tensors {
        let stored = try #require(packed.container[view.name])
        if view.shape.rank == 3 {
          stackCount += 1
          let sizes = view.shape.dimensions
          #expect(stored.shape.dimensions == [sizes[0] * sizes[1], sizes[2]] && stored.scheme?.bits == 4)
          #expect(stored.source?.shape == view.shape)
        } else {
          #expect(stored.shape == view.shape)
        }
        guard view.name.contains("embed_tokens") || view.name.contains("lm_head") else { continue }
        #expect(stored.scheme?.bits == (embeddingBits == 8 ? 8 : nil), "\(view.name)")
      }
      #expect(stackCount == 2 * (name == "gptoss" ? 3 : 2))
      let verification = try WeightVerification(of: packed, reference: source)
      #expect(verification.hasPassed, "\(verification.offenders)")
      try unpack(packed, to: folder + "/unpacked.safetensors")
      let unpacked = try Checkpoint.open(folder + "/unpacked.safetensors")
      for view in source.checkpoint.tensors {
        let own = try #require(unpacked[view.name])
        #expect(own.shape == view.shape)
        guard view.shape.rank == 3 else { continue }
        let (got, expected) = (
          try TransformedRows(view: own).values(rows: 0..<view.shape.rowCount),
          try TransformedRows(view: view).values(rows: 0..<view.shape.rowCount)
        )
        #expect(relativeError(got, expected) < 0.05, "\(view.name)")
      }
    }
  }

  /// What is not run is named by the plan.
  @Test func warningsOfTheFamilyAreThePlans() throws {
    let text = try String(contentsOfFile: Fixture.llama.path("config.json"), encoding: .utf8)
      .replacingOccurrences(of: "\"num_hidden_layers\": 4", with: "\"num_hidden_layers\": 3")
    try Fixture.llama.withCopy(["config.json": text]) { folder in
      let plan = try plan(Checkpoint.open(folder), isWeightsOnly: false)
      #expect(plan.warnings.contains { $0.contains("'model.layers.3.") })
    }
  }

  @Test func anAdapterIsNoModel() throws {
    try withTemporaryFolder { folder in
      var builder = CheckpointBuilder()
      for part in ["A", "B"] {
        builder.add(
          "base_model.model.model.layers.0.self_attn.q_proj.lora_\(part).weight", [16, 16],
          floats: [Float](repeating: 1, count: 256))
      }
      _ = try builder.write(to: folder + "/adapter_model.safetensors")
      try Data("{\"peft_type\": \"LORA\"}".utf8).write(to: URL(fileURLWithPath: folder + "/adapter_config.json"))
      for isWeightsOnly in [false, true] {
        #expect(try rule(Checkpoint.open(folder), isWeightsOnly: isWeightsOnly) == "family-adapter")
      }
    }
  }

  /// Without their scales, converting such weights to another type would lose the model.
  @Test func scaledFloatsOfEightBitsAreNamed() throws {
    try withTemporaryFolder { folder in
      var builder = CheckpointBuilder()
      builder.tensors.append(("layers.0.weight", .f8e4m3, [16, 16], [UInt8](repeating: 0, count: 256)))
      let plain = try builder.write(to: folder + "/plain.safetensors")
      #expect(try rule(plain, isWeightsOnly: true) == "tensor-type")
      builder.add("layers.0.weight_scale_inv", [1, 1], floats: [1])
      let scaled = try builder.write(to: folder + "/scaled.safetensors")
      #expect(try rule(scaled, isWeightsOnly: true) == "family-quantized")
    }
  }
}
