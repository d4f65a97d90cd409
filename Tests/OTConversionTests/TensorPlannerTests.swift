import OTCheckpoint
import OTConversion
import OTFoundation
import OTGraph
import OTTensor
import Testing
import _OTModelSupport
import _OTTestSupport

/// How each tensor is stored, and in which order.
@Suite struct TensorPlannerTests {
  private func name(_ treatment: PlannedTensor.Treatment) -> String {
    switch treatment {
    case .quantized(let scheme): "int\(scheme.bits)"
    case .evaluated: "evaluated"
    case .converted(let type): "converted to \(type.rawValue)"
    case .unchanged: "unchanged"
    case .alias(let target): "alias of \(target)"
    case .vector: "vector"
    }
  }

  /// Of a model of an unknown family, float matrices of 16 rows or more are quantized and nothing else.
  @Test func withoutAGraphMatricesAreQuantized() throws {
    try withTemporaryFolder { folder in
      var builder = CheckpointBuilder()
      func zeros(_ count: Int) -> [Float] { [Float](repeating: 0, count: count) }
      builder.add("matrix", [16, 8], floats: zeros(128))
      builder.add("low", [15, 8], floats: zeros(120))
      builder.add("vector", [64], floats: zeros(64))
      builder.add("cube", [16, 2, 4], floats: zeros(128))
      builder.add("without columns", [16, 0], floats: [])
      builder.add("left out", [16, 8], floats: zeros(128))
      builder.tensors.append(("integers", .i64, [16, 1], [UInt8](repeating: 0, count: 128)))
      let checkpoint = try builder.write(to: folder + "/model.safetensors")
      var options = ConversionOptions()
      options.isWeightsOnly = true
      options.bits = 5
      options.exclude = [try pattern("left")]
      let plan = try ConversionPlan(checkpoint: checkpoint, options: options)
      #expect(plan.graph == nil)
      var found: [String: String] = [:]
      for tensor in plan.tensors { found[tensor.outputName] = name(tensor.treatment) }
      #expect(
        found == [
          "matrix": "int5", "low": "unchanged", "vector": "unchanged", "cube": "unchanged",
          "without columns": "unchanged", "left out": "unchanged", "integers": "unchanged",
        ])
    }
  }

  /// Parameters come as they are needed, then the transforms' vectors.
  @Test(arguments: Fixture.decoders) func tensorsComeInTheOrderOfExecution(_ fixture: Fixture) throws {
    let plan = try ConversionPlan(
      checkpoint: fixture.checkpoint(), options: ConversionOptions(), statistics: fixture.statistics())
    let graph = try #require(plan.graph)
    var seen = Set<String>()
    let parameters = graph.nodes.flatMap { graph.parameterUses(of: $0.name) }
      .filter { $0.role != .shift && $0.role != .scale }.map(\.outputName).filter { seen.insert($0).inserted }
    #expect(plan.tensors.map(\.outputName).prefix(parameters.count) == parameters[...])
    #expect(plan.tensors.map(\.outputName).dropFirst(parameters.count) == graph.transformVectors.map(\.name)[...])
  }

  /// Weights of blocks, tables and the head, norms and biases of a plain conversion.
  @Test(arguments: Fixture.allCases) func treatmentsFollowTheRole(_ fixture: Fixture) throws {
    var options = ConversionOptions()
    options.bits = 6
    let plan = try ConversionPlan(checkpoint: fixture.checkpoint(), options: options)
    for tensor in plan.tensors {
      let use = try #require(tensor.use, "\(tensor.outputName)")
      let expected =
        switch (use.role, use.linearRole) {
        case (.weight, .block?): "int6"
        case (.weight, _): "int8"
        // A table of fewer than 16 rows, such as BERT's of token types, is not worth it.
        case (.table, _): use.shape.rowCount < 16 ? "unchanged" : "int8"
        default: "evaluated"
        }
      #expect(name(tensor.treatment) == expected, "\(tensor.outputName)")
    }
  }

  /// Names of the same elements are stored once.
  @Test func tiedTensorsAreAliases() throws {
    let checkpoint = try Checkpoint.open(Fixtures.path("pytorch/tied.bin"))
    var options = ConversionOptions()
    options.isWeightsOnly = true
    let plan = try ConversionPlan(checkpoint: checkpoint, options: options)
    #expect(!checkpoint.aliases.isEmpty)
    for (alias, target) in checkpoint.aliases {
      let tensor = try #require(plan.tensors.first { $0.outputName == alias })
      #expect(name(tensor.treatment) == "alias of \(target)")
    }
  }
}
