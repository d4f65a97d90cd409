import OTCheckpoint
import OTContainer
import OTConversion
import OTFoundation
import OTGraph
import OTModel
import OTRuntime
import OTTensor
import OTVerify
import Testing
import _OTModelSupport
import _OTTestSupport

/// Tiny random models against the logits that `transformers` gives (scripts/make-family-goldens).
@Suite struct FamilyGoldenTests {
  static let families = ["gpt2", "qwen3"]

  private func checkpoint(_ family: String) throws -> Checkpoint {
    try Checkpoint.open(Fixtures.path("models/\(family)-mini"))
  }

  /// The largest difference of the logits of both sequences, as a fraction of the goldens' range.
  private func error(_ executor: some Executor, _ family: String) throws -> Double {
    let goldens = try Goldens(path: Fixtures.path("models/\(family)-mini/goldens.safetensors"))
    return try (0..<2).map { row in
      let logits = try executor.run(tokenIDs: goldens.integers("input_ids", row: row)).output("logits")
      return relativeError(logits.values, try goldens.floats("logits_fp32", row: row))
    }.max() ?? .infinity
  }

  @Test(arguments: families) func floatLogitsAreThoseOfTransformers(_ family: String) throws {
    let checkpoint = try checkpoint(family)
    let model = try Families.model(
      configuration: checkpoint.attachments.json(.configuration), tensors: TensorCatalog(checkpoint.tensors))
    #expect(model.warnings.isEmpty && model.graph.family == family)
    #expect(model.graph.unusedTensors(in: TensorCatalog(checkpoint.tensors)).isEmpty)
    let executor = try FloatExecutor(
      graph: model.graph, parameters: ParameterReader(checkpoint.tensors), threadCount: 2)
    let error = try error(executor, family)
    #expect(error < 2e-6, "\(family): \(error) of the range")
    print("\(family): float \(error)")
  }

  /// Without config.json the family is told from the names.
  @Test(arguments: families) func namesTellTheFamily(_ family: String) throws {
    let graph = try Families.graph(configuration: nil, tensors: TensorCatalog(checkpoint(family).tensors))
    #expect(graph.family == family && !graph.missing.isEmpty)
  }

  @Test(arguments: families, [8, 6]) func packedModelsAreVerifiedAndUnpacked(_ family: String, _ bits: Int) throws {
    try withTemporaryFolder { folder in
      let checkpoint = try checkpoint(family)
      var options = ConversionOptions()
      options.bits = bits
      let packed = try convert(checkpoint, options, to: folder + "/model.otq")
      let verification = try WeightVerification(of: packed, reference: SourceModel(checkpoint, path: folder))
      #expect(verification.hasPassed, "\(verification.offenders)")
      let executor = try QuantizedExecutor(graph: #require(packed.graph), container: packed.container, threadCount: 2)
      let error = try error(executor, family)
      #expect(error < (bits == 8 ? 0.03 : 0.1), "\(family), \(bits) bits: \(error) of the range")
      print("\(family): W\(bits)A\(bits) \(error)")

      try unpack(packed, to: folder + "/unpacked.safetensors")
      let unpacked = try Checkpoint.open(folder + "/unpacked.safetensors")
      #expect(unpacked.tensors.map(\.name).sorted() == checkpoint.tensors.map(\.name).sorted())
      for tensor in checkpoint.tensors { #expect(unpacked[tensor.name]?.shape == tensor.shape) }
      // The elements are in their places: as many of them are right as quantization leaves.
      let restored = try FloatExecutor(
        graph: Families.graph(
          configuration: checkpoint.attachments.json(.configuration), tensors: TensorCatalog(unpacked.tensors)),
        parameters: ParameterReader(unpacked.tensors), threadCount: 2)
      #expect(try self.error(restored, family) < (bits == 8 ? 0.03 : 0.1))
    }
  }
}
