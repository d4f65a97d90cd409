import Foundation
import OTConversion
import OTFoundation
import OTGraph
import OTModel
import OTObservation
import OTQuantization
import OTRuntime
import OTVerify
import Testing
import _OTModelSupport
import _OTTestSupport

/// Weights that are rounded by what the quantized network gives, from samples to the file.
@Suite struct SequentialRoundingTests {
  /// Samples of several lengths, one of them empty.
  private static let samples = samples([40, 0, 33, 64, 64, 20, 64])

  private static func samples(_ lengths: [Int]) -> Calibration.Samples {
    Calibration.Samples(
      tokens: lengths.enumerated().map { sample, length in
        (0..<length).map { ($0 * 37 + sample * 101) % 1900 + 4 }
      }, run: CalibrationRun(texts: [], sampleCount: lengths.count, length: lengths.max() ?? 0, seed: nil))
  }

  private static func file(
    _ fixture: Fixture, _ method: String, _ samples: Calibration.Samples = samples, threads: Int = 2,
    memory: Int? = nil,
    change: (inout ConversionOptions) throws
      -> Void = { _ in }
  ) throws -> (bytes: Data, model: PackedModel) {
    var options = ConversionOptions()
    options.bits = 4
    options.activationBits = 8
    options.methods = [try Methods.method(method)]
    options.threadCount = threads
    try change(&options)
    var settings = Calibration()
    settings.threadCount = threads
    settings.maximumByteCount = memory
    return try withTemporaryFolder { folder in
      let conversion = try Conversion(fixture.source(), options: options)
      let observed =
        conversion.needs.isEmpty
        ? nil : try settings.run(on: conversion.model, samples: samples, kinds: conversion.needs)
      let plan = try settings.rounding(conversion.plan(observed), samples: samples, in: folder)
      try Converter(plan).run(to: folder + "/m.otq")
      // The scratch file has no name.
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["m.otq"])
      return (try Data(contentsOf: URL(fileURLWithPath: folder + "/m.otq")), try PackedModel(path: folder + "/m.otq"))
    }
  }

  /// Mean error of the outputs against floats, over the samples.
  private static func error(_ file: PackedModel, _ fixture: Fixture) throws -> Double {
    let packed = try QuantizedExecutor(graph: #require(file.graph), container: file.container, threadCount: 2)
    let float = try fixture.floatExecutor()
    let sequences = samples.tokens.filter { !$0.tokenIDs.isEmpty }
    let name = float.graph.outputs.keys.contains("logits") ? "logits" : "hidden"
    var (squares, count) = (0.0, 0)
    for (got, expected) in zip(try packed.run(sequences, observe: nil), try float.run(sequences, observe: nil)) {
      for (a, b) in zip(try got.output(name).values, try expected.output(name).values) {
        squares += Double(a - b) * Double(a - b)
        count += 1
      }
    }
    return (squares / Double(count)).squareRoot()
  }

  @Test(arguments: Fixture.allCases) func bestIsBetterThanItsParts(_ fixture: Fixture) throws {
    let file = try Self.file(fixture, "best").model
    let verification = try WeightVerification(of: file, reference: fixture.source(), threadCount: 2)
    #expect(verification.hasPassed, "\(verification.offenders.prefix(3))")
    for weight in file.blockWeights { #expect(weight.rounding == .gptq && weight.scheme?.isSymmetric == true) }
    let rounding = file.container.metadata["method"]?["rounding"]
    #expect(rounding?["name"]?.string == "gptq" && rounding?["run"]?["samples"]?.integer == 7)
    // The last state of bert-mini hardly depends on its input: its error says nothing.
    guard fixture != .bert else { return }
    let error = try Self.error(file, fixture)
    let nearest = try Self.file(fixture, "best") { $0.rounding = NearestRounding() }.model
    #expect(nearest.blockWeights.allSatisfy { $0.rounding == .nearest })
    let nearestError = try Self.error(nearest, fixture)
    #expect(error < nearestError * 0.8, "\(error), nearest \(nearestError)")
    let plainError = try Self.error(Self.file(fixture, "per-token").model, fixture)
    #expect(error < plainError * 0.7, "\(error), per token \(plainError)")
  }

  /// Other methods take the rounding as well, and a model's linears that are excluded stay as they are.
  @Test(arguments: Fixture.decoders) func anyMethodTakesIt(_ fixture: Fixture) throws {
    let rounding = try Roundings.rule("gptq,actorder=false")
    let file = try Self.file(fixture, "outliertune") {
      $0.rounding = rounding
      $0.exclude = [NamePattern("layers\\.1\\.|h\\.1\\.")!]
      $0.granularity = .perGroup(size: 32)
    }.model
    #expect(try WeightVerification(of: file, reference: fixture.source(), threadCount: 2).hasPassed)
    #expect(file.blockWeights.allSatisfy { $0.rounding == .gptq })
    let nearest = try Self.file(fixture, "outliertune") {
      $0.exclude = [NamePattern("layers\\.1\\.|h\\.1\\.")!]
      $0.granularity = .perGroup(size: 32)
    }.model
    #expect(file.blockWeights.count == nearest.blockWeights.count)
    let errors = (try Self.error(file, fixture), try Self.error(nearest, fixture))
    #expect(errors.0 < errors.1)
  }

  /// Channels that are read apart, rotated parameters, a ratio that was searched for, float activations.
  @Test(arguments: ["llmint8,threshold=3", "quarot", "os,ratio=0.99", "awq"])
  func newerMethodsTakeIt(_ method: String) throws {
    let fixture = Fixture.llama
    let file = try Self.file(fixture, method) { $0.rounding = GPTQ() }.model
    try withTemporaryFolder { folder in
      let reference = try file.comparable(fixture.source(), in: folder)
      let verification = try WeightVerification(of: file, reference: reference, threadCount: 2)
      #expect(verification.hasPassed, "\(verification.offenders.prefix(3))")
    }
    #expect(file.blockWeights.allSatisfy { $0.rounding == .gptq })
    let nearest = try Self.file(fixture, method) { $0.rounding = NearestRounding() }.model
    let errors = (try Self.error(file, fixture), try Self.error(nearest, fixture))
    #expect(errors.0 < errors.1, "\(method): \(errors)")
  }

  /// AWQ's own rounding clips all but queries and keys; others take the clips, too.
  @Test(arguments: Fixture.decoders) func clipsAreInTheFile(_ fixture: Fixture) throws {
    let change: (inout ConversionOptions) throws -> Void = { $0.granularity = .perGroup(size: 32) }
    let file = try Self.file(fixture, "awq", change: change).model
    #expect(file.blockWeights.allSatisfy { $0.rounding == .clipped })
    #expect(file.container.metadata["method"]?["rounding"]?["name"]?.string == "clip")
    let nearest = try Self.file(fixture, "awq") {
      try change(&$0)
      $0.rounding = NearestRounding()
    }.model
    let both = try Self.file(fixture, "awq") {
      try change(&$0)
      $0.rounding = try Roundings.rule("gptq,clip=true")
    }.model
    #expect(both.container.metadata["method"]?["rounding"]?["clip"]?.bool == true)
    for model in [file, nearest, both] {
      let verification = try WeightVerification(of: model, reference: fixture.source(), threadCount: 2)
      #expect(verification.hasPassed, "\(verification.offenders.prefix(3))")
    }
    let graph = try #require(file.graph)
    var clipped: Set<Bool> = []
    for (own, other) in zip(file.blockWeights, nearest.blockWeights) {
      let scales = (try file.container.scales(of: own), try nearest.container.scales(of: other))
      let node = try #require(file.uses[own.name]?.node)
      if graph.givesScores(node) {
        #expect(scales.0 == scales.1, "\(node)")
      } else {
        clipped.insert(scales.0 != scales.1)
      }
    }
    #expect(clipped == [true])
    let errors = try [both, file, nearest].map { try Self.error($0, fixture) }
    #expect(errors[0] < errors[1] && errors[1] < errors[2], "\(errors)")
  }

  @Test(arguments: [(Fixture.bloom, "gptq"), (.llama, "gptq,passes=3,drift=0.5")])
  func bytesDependOnNeitherThreadsNorMemory(_ fixture: Fixture, _ rounding: String) throws {
    let rule = try Roundings.rule(rounding)
    // Three blocks of 512 tokens: one batch where there is room, several in the least memory, and values in a file.
    let samples = Self.samples([Int](repeating: 128, count: 12))
    let one = try Self.file(fixture, "best", samples, threads: 1) { $0.rounding = rule }.bytes
    let many = try Self.file(fixture, "best", samples, threads: 3) { $0.rounding = rule }.bytes
    #expect(many == one)
    // What it says that it needs is enough, and a byte less is not.
    var memory = 1
    var narrow: Data?
    for _ in 0..<3 where narrow == nil {
      do {
        narrow = try Self.file(fixture, "best", samples, memory: memory) { $0.rounding = rule }.bytes
      } catch let refusal as Refusal {
        #expect(refusal.rule == "calibration-memory")
        let needed = refusal.message.split(separator: " ").compactMap { Int($0) }.last
        memory = try #require(needed)
      }
    }
    #expect(narrow == one && memory > 1_000_000 && memory < 10_000_000, "\(memory)")
    #expect(throws: Refusal.self) { try Self.file(fixture, "best", samples, memory: memory - 1) { $0.rounding = rule } }
    let others = try Self.file(fixture, "best", Self.samples([Int](repeating: 128, count: 11))) { $0.rounding = rule }
      .bytes
    #expect(others != one)
  }

  @Test func withoutSamplesItIsRefused() throws {
    var options = ConversionOptions()
    options.methods = [PerToken()]
    options.rounding = GPTQ()
    let plan = try Conversion(Fixture.llama.source(), options: options).plan()
    try withTemporaryFolder { folder in
      let refusal = #expect(throws: Refusal.self) { try Converter(plan).run(to: folder + "/m.otq") }
      #expect(refusal?.rule == "rounding-samples")
      let left = try FileManager.default.contentsOfDirectory(atPath: folder)
      #expect(left.isEmpty)
      let scratch = #expect(throws: Refusal.self) {
        try Calibration().rounding(plan, samples: Self.samples, in: folder + "/none")
      }
      #expect(scratch?.rule == "scratch-unwritable")
    }
  }
}
