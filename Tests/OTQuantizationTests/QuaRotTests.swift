import OTConversion
import OTExport
import OTFoundation
import OTGraph
import OTModel
import OTQuantization
import OTRuntime
import OTVerify
import Testing
import _OTModelSupport
import _OTTestSupport

/// Rotations that go into the parameters: of the residual stream, and of values.
@Suite struct QuaRotTests {
  @Test(arguments: [1, 2, 9, 12, 64, 576]) func matricesAreOrthogonal(_ size: Int) {
    let matrix = OrthogonalMatrix(size: size, seed: 7)
    let rows = (0..<size).map { row -> [Double] in
      var x = [Double](repeating: 0, count: size)
      x[row] = 1
      matrix.apply(&x)
      return x
    }
    var worst = 0.0
    for i in 0..<size {
      for j in i..<size {
        let product = zip(rows[i], rows[j]).reduce(0) { $0 + $1.0 * $1.1 }
        worst = max(worst, abs(product - (i == j ? 1 : 0)))
      }
    }
    #expect(worst < 1e-13)
    // A Hadamard matrix of the power of 2, in magnitude.
    if size == 64 { #expect(rows.allSatisfy { $0.allSatisfy { abs(abs($0) - 0.125) < 1e-15 } }) }
    if size > 2 { #expect(Set(rows.map { $0[0] < 0 }).count == 2 && rows[0] != rows[1]) }
    var other = [Double](repeating: 1, count: size)
    OrthogonalMatrix(size: size, seed: 8).apply(&other)
    var own = [Double](repeating: 1, count: size)
    matrix.apply(&own)
    #expect(size < 9 || other != own)
  }

  private static let rotations = [
    OfflineRotation(residual: true, heads: false), OfflineRotation(residual: false, heads: true),
    OfflineRotation(seed: 3),
  ]

  private static func expectFunction(_ source: SourceModel, _ rotation: OfflineRotation, _ name: String) throws {
    try withTemporaryFolder { folder in
      let rotated = try source.rotated(by: rotation, in: folder)
      let graph = try rotated.graph()
      let tokens = (0..<24).map { ($0 * 37 + 5) % min(graph.vocabularySize ?? 100, 100) }
      func outputs(_ model: SourceModel) throws -> [String: [Float]] {
        try FloatExecutor(graph: model.graph(), parameters: model.parameters, threadCount: 2)
          .run(tokenIDs: tokens).outputs.mapValues(\.values)
      }
      let (expected, got) = (try outputs(source), try outputs(rotated))
      #expect(Set(expected.keys) == Set(got.keys))
      for (output, values) in expected {
        let error = relativeError(got[output] ?? [], values)
        #expect(error < 2e-5, "\(name) \(output): \(error)")
      }
      // Every weight of a block has changed.
      for use in graph.parameterUses where use.role == .weight && use.linearRole == .block && rotation.residual {
        let tensor = try #require(use.tensor)
        let own = try rotated.parameters.values(of: use)
        guard let other = try source.graph().parameterUses(of: use.node).first, other.tensor == tensor else { continue }
        #expect(try source.parameters.values(of: other) != own, "\(name) \(use.node)")
      }
    }
  }

  @Test(arguments: Fixture.decoders, rotations)
  func floatFunctionIsPreserved(_ fixture: Fixture, _ rotation: OfflineRotation) throws {
    try Self.expectFunction(fixture.source(), rotation, "\(fixture)")
  }

  /// Fused projections, constants on the way, gains of norms in heads, transposed weights; attention and MLP side by
  /// side, LayerNorm with and without parameters.
  @Test(arguments: [
    "families/phi3", "families/granite-biased", "families/smollm3", "qwen3-mini", "gpt2-mini", "families/gemma",
    "families/neox", "families/falcon-new", "families/falcon-alibi", "families/gptj", "families/phi-norms",
    "families/stablelm-parallel", "families/cohere-norms", "families/cohere2", "families/olmo",
    "families/nemotron-biased", "families/glm", "families/granite4", "families/mpt",
  ])
  func otherFamiliesHaveIt(_ name: String) throws {
    let source = try SourceModel(path: Fixtures.path("models/\(name)"))
    for rotation in Self.rotations { try Self.expectFunction(source, rotation, name) }
  }

  @Test(arguments: ["bert-mini", "families/gemma2", "families/olmo2"]) func othersAreRefused(_ name: String) throws {
    let source = try SourceModel(path: Fixtures.path("models/\(name)"))
    try withTemporaryFolder { folder in
      let refusal = #expect(throws: Refusal.self) { try source.rotated(by: OfflineRotation(heads: false), in: folder) }
      #expect(refusal?.rule == "rotation-stream")
    }
  }

  private static func file(_ setting: MethodSetting, _ methods: [String], bits: Int) throws -> PackedModel {
    var options = ConversionOptions()
    options.bits = bits
    options.embeddingBits = 16
    options.methods = try methods.map(Methods.method)
    options.threadCount = 2
    var settings = Calibration()
    settings.threadCount = 2
    return try withTemporaryFolder { folder in
      options.scratchFolder = folder
      let conversion = try Conversion(setting.source, options: options)
      let observed =
        conversion.needs.isEmpty
        ? nil : try settings.run(on: conversion.model, samples: setting.samples, kinds: conversion.needs)
      let plan = try settings.rounding(conversion.plan(observed), samples: setting.samples, in: folder)
      try Converter(plan).run(to: folder + "/m.otq")
      return try PackedModel(path: folder + "/m.otq")
    }
  }

  /// The reference rotates by other signs: much of the little that quantization costs is the luck of these.
  @Test(arguments: [Fixture.opt, .llama]) func scoresAreTheReferences(_ fixture: Fixture) throws {
    let setting = try MethodSetting.of(fixture)
    let float = try #require(setting.facts["float"]?.double)
    for (bits, name) in [(8, "hadamard_w8a8_token"), (6, "hadamard_w6a6_token"), (4, "hadamard_w4a4_token")] {
      let score = try setting.perplexity(of: Self.file(setting, ["quarot"], bits: bits))
      let golden = try setting.golden("quarot", name)
      #expect(abs(score - golden) < abs(golden - float) + 0.002 * golden, "\(name): \(score), golden \(golden)")
    }
  }

  @Test(arguments: Fixture.decoders) func filesVerify(_ fixture: Fixture) throws {
    let setting = try MethodSetting.of(fixture)
    let file = try Self.file(setting, ["quarot,seed=5", "best"], bits: 6)
    #expect(try file.offlineRotation() == OfflineRotation(seed: 5))
    #expect(file.container.metadata["method"]?["name"]?.string == "quarot+best")
    try withTemporaryFolder { folder in
      let reference = try file.comparable(setting.source, in: folder)
      let verification = try WeightVerification(of: file, reference: reference, threadCount: 2)
      #expect(verification.hasPassed, "\(verification.offenders.prefix(3))")
      let plain = try WeightVerification(of: file, reference: setting.source, threadCount: 2)
      #expect(!plain.hasPassed)
      for isRestored in [true, false] {
        let refusal = #expect(throws: Refusal.self) {
          try PackedExport(file, isRestored: isRestored).run(
            into: SafetensorsFileWriter(ExportOutput(path: folder + "/u.safetensors")))
        }
        #expect(refusal?.rule == "export-rotation")
      }
    }
    let score = try setting.perplexity(of: file)
    let float = try #require(setting.facts["float"]?.double)
    #expect(score < float * 1.02, "\(score), float \(float)")
  }

  @Test func statisticsOfThePlainModelAreRefused() throws {
    let setting = try MethodSetting.of(.llama)
    var options = ConversionOptions()
    options.methods = [try Methods.method("quarot,activations=symmetric")]
    #expect(options.methods[0].needs == [.ranges])
    let refusal = #expect(throws: Refusal.self) {
      try Conversion(setting.source, options: options, statistics: setting.observed)
    }
    #expect(refusal?.rule == "statistics-rotated")
  }
}
