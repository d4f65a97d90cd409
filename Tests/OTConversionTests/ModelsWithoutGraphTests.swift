import Foundation
import OTCheckpoint
import OTConversion
import OTFoundation
import OTModel
import OTTensor
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
    ("family-code", #""auto_map": {"AutoModel": "x.Y"}"#), ("family-unknown", #""model_type": "mamba""#),
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
