import Foundation
import OTCheckpoint
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

/// Mixtures of experts on their way from samples of text to the file.
@Suite struct ExpertTests {
  static let names = ["mixtral", "qwen2moe-sliding", "qwen3moe-sparse", "gptoss", "deepseek3"]

  private static func source(_ name: String) throws -> SourceModel {
    try SourceModel(path: Fixtures.path("models/families/\(name)"))
  }

  private static func executor(_ model: SourceModel) throws -> FloatExecutor {
    try FloatExecutor(graph: model.graph(), parameters: model.parameters, threadCount: 2, cachesParameters: true)
  }

  private static func samples(_ lengths: [Int]) -> Calibration.Samples {
    Calibration.Samples(
      tokens: lengths.enumerated().map { sample, length in (0..<length).map { ($0 * 37 + sample * 101) % 120 + 4 } },
      run: CalibrationRun(texts: [], sampleCount: lengths.count, length: lengths.max() ?? 0, seed: nil))
  }

  /// The tokens, counted through all sequences, whose weight for an expert is not 0, by the name of the router.
  private static func chosen(_ executor: FloatExecutor, _ sequences: [TokenSequence]) throws -> [String: [[Int]]] {
    var chosen: [String: [[Int]]] = [:]
    _ = try executor.run(sequences) { value in
      guard case .routing? = executor.graph[value.name]?.operation else { return }
      chosen[value.name] = (0..<value.channelCount).map { expert in
        (0..<value.rowCount).filter { value.values[$0 * value.channelCount + expert] != 0 }
      }
    }
    return chosen
  }

  // MARK: Observing

  /// Each token has as many experts as the model says, and a site of an expert is shown their tokens' rows alone.
  @Test(arguments: names) func expertsSeeTheirTokens(_ name: String) throws {
    let executor = try Self.executor(Self.source(name))
    let graph = executor.graph
    let sequences = Self.samples([20, 1, 9, 30]).tokens
    let count = sequences.reduce(0) { $0 + $1.tokenIDs.count }
    let chosen = try Self.chosen(executor, sequences)
    #expect(!chosen.isEmpty)
    for (router, experts) in chosen {
      guard case .routing(let routing)? = graph[router]?.operation else { continue }
      #expect(experts.reduce(0) { $0 + $1.count } == routing.chosenCount * count)
      #expect((0..<count).allSatisfy { token in experts.count { $0.contains(token) } == routing.chosenCount })
    }
    var seen = 0
    _ = try executor.run(sequences) { value in
      guard case .expert(let expert, let router)? = graph.rows(of: value.name) else {
        #expect(value.tokens == nil && value.rowCount == count)
        return
      }
      seen += 1
      #expect(value.tokens == chosen[router]?[expert] && value.rowCount == value.tokens?.count)
    }
    #expect(seen > 0)
  }

  @Test(arguments: names) func calibrationCountsTheTokensOfEachExpert(_ name: String) throws {
    let executor = try Self.executor(Self.source(name))
    let graph = executor.graph
    let sequences = Self.samples([20, 1, 9, 30]).tokens
    let starts = sequences.reduce(into: [0]) { $0.append(($0.last ?? 0) + $1.tokenIDs.count) }
    let chosen = try Self.chosen(executor, sequences)
    let kinds: Set<ObservationKind> = [
      .ranges, .sampleRanges, .channelMoments, .moments, .rows(count: 6), .wholeSamples(count: 4),
    ]
    let observed = try Calibrator(executor: executor, parameterByteCount: 0, maximumByteCount: 1 << 28)
      .run(sequences, pass: CalibrationPass(kinds)).sites
    var count = 0
    for site in graph.sites {
      let found = try #require(observed[site.producer])
      guard case .expert(let expert, let router)? = graph.rows(of: site.producer) else { continue }
      count += 1
      let tokens = try #require(chosen[router]?[expert])
      let places = tokens.map { token -> [Int] in
        let sample = starts.lastIndex { $0 <= token } ?? 0
        return [sample, token - starts[sample]]
      }
      #expect(found.moments?.rowCount == tokens.count && found.channelMoments?.rowCount == tokens.count)
      #expect(found.wholeSamples?.places.map { [$0.sample, $0.row] } == places)
      let kept = (found.rows?.places ?? []).map { [$0.sample, $0.row] }
      #expect(kept.count <= 6 && kept.allSatisfy(places.contains))
      let sampleCount = Set(places.map { $0[0] }).count
      #expect(found.sampleRanges?.count == sampleCount)
      #expect(found.ranges?.sampleCount == (sampleCount > 0 ? sampleCount : nil))
      #expect(found.isEmpty == tokens.isEmpty)
    }
    #expect(count >= 4)
  }

  /// From the values that a run to each site keeps, the rest of the model gives what it gives at once.
  @Test(arguments: names) func partsEqualTheWholeRun(_ name: String) throws {
    let executor = try Self.executor(Self.source(name))
    let graph = executor.graph
    let sequences = Self.samples([20, 1, 9, 30]).tokens
    let logits = try #require(graph.outputs["logits"])
    let whole = try executor.run(sequences, from: [:], until: [logits], observe: nil)
    var values: [String: [Matrix]] = [:]
    for site in graph.sites {
      let kept = graph.frontier(at: site)
      let results = try executor.run(sequences, from: values, until: kept, observe: nil)
      values = try kept.reduce(into: [:]) { values, node in values[node] = try results.map { try $0.output(node) } }
    }
    let rest = try executor.run(sequences, from: values, until: [logits], observe: nil)
    let isEqual = try zip(rest, whole).allSatisfy { try $0.output(logits) == $1.output(logits) }
    #expect(isEqual)
    // A router's values that are another's are refused.
    let router = try #require(graph.nodes.first { if case .routing = $0.operation { true } else { false } })
    let size = try #require(graph.channelCount(of: router.name))
    let wrong = [
      router.name: sequences.map {
        Matrix(
          rowCount: $0.tokenIDs.count, channelCount: size,
          values: [Float](repeating: 1, count: $0.tokenIDs.count * size))
      }
    ]
    let refusal = #expect(throws: Refusal.self) {
      try executor.run(sequences, from: wrong, until: [logits], observe: nil)
    }
    #expect(refusal?.rule == "run-given")
  }

  // MARK: Deciding and writing

  private static func file(
    _ name: String, _ method: String, _ samples: Calibration.Samples, rounding: String? = nil, memory: Int? = nil,
    threads: Int = 2, statistics: Bool = false
  ) throws -> (plan: ConversionPlan, model: PackedModel, bytes: Data) {
    var options = ConversionOptions()
    options.bits = rounding == nil ? 8 : 4
    options.activationBits = 8
    options.methods = [try Methods.method(method)]
    if let rounding { options.rounding = try Roundings.rule(rounding) }
    options.threadCount = threads
    var settings = Calibration()
    settings.threadCount = threads
    settings.maximumByteCount = memory
    return try withTemporaryFolder { folder in
      options.scratchFolder = folder
      let conversion = try Conversion(source(name), options: options)
      var observed =
        conversion.needs.isEmpty
        ? nil
        : try settings.run(
          on: conversion.model, samples: samples, kinds: conversion.needs,
          sources: conversion.model.checkpoint.files.map {
            FileRecord(name: $0.name, byteCount: $0.mapped.byteCount, sha256: try SHA256Digest.hex(of: $0.mapped))
          })
      if statistics, let found = observed {
        try found.write(to: folder + "/statistics", producer: "test", force: false, inputs: [])
        let read = try ModelObservations(path: folder + "/statistics")
        try read.check(against: #require(conversion.graph), sources: nil)
        observed = read
      }
      let plan = try settings.rounding(conversion.plan(observed), samples: samples, in: folder)
      try Converter(plan).run(to: folder + "/m.otq")
      return (
        plan, try PackedModel(path: folder + "/m.otq"), try Data(contentsOf: URL(fileURLWithPath: folder + "/m.otq"))
      )
    }
  }

  /// Root of the mean squared error of the logits against floats, as a part of theirs.
  private static func error(_ file: PackedModel, _ name: String) throws -> Double {
    let packed = try QuantizedExecutor(graph: #require(file.graph), container: file.container, threadCount: 2)
    let float = try executor(source(name))
    var (squares, total) = (0.0, 0.0)
    for sequence in samples([40, 33, 28]).tokens {
      let (got, expected) = (
        try packed.run([sequence], observe: nil)[0].output("logits").values,
        try float.run([sequence], observe: nil)[0].output("logits").values
      )
      for (a, b) in zip(got, expected) {
        squares += Double(a - b) * Double(a - b)
        total += Double(b) * Double(b)
      }
    }
    return (squares / total).squareRoot()
  }

  private static let methods = [
    "per-token", "outliertune", "smoothquant", "smoothquant,search=true,samples=2", "osplus", "hadamard", "best",
    "best,rotate=false", "llmint8", "choice,of=per-token+outliertune+hadamard,rows=32", "quarot",
  ]

  /// Every weight of an expert is quantized, and the file runs, whatever the method.
  @Test(arguments: ["mixtral", "gptoss"], methods)
  func methodsDecideAboutExperts(_ name: String, _ method: String) throws {
    let (plan, file, _) = try Self.file(name, method, Self.samples([48, 0, 40, 64, 50]))
    let graph = try #require(file.graph)
    // Of LLM.int8() some channels stay float.
    let experts = graph.parameterUses.filter {
      $0.role == .weight && $0.node.contains("experts.") && !$0.node.hasSuffix(".kept")
    }
    #expect(!experts.isEmpty && experts.allSatisfy { file.container[$0.outputName]?.scheme != nil })
    let routers = graph.parameterUses.filter { $0.role == .weight && $0.linearRole == .router }
    #expect(!routers.isEmpty && routers.allSatisfy { file.container[$0.outputName]?.scheme == nil })
    #expect(plan.recipe.unreached.isEmpty)
    let error = try Self.error(file, name)
    #expect(error < 0.25, "\(name), \(method): \(error)")
  }

  /// GPTQ goes from expert to expert, with as little memory as there is, and better than to nearest.
  @Test(arguments: names) func roundingGoesByWhatTheExpertsAreGiven(_ name: String) throws {
    let samples = Self.samples([48, 0, 40, 64, 50])
    let rounded = try Self.file(name, "per-token", samples, rounding: "gptq,passes=2,drift=0.5")
    let again = try Self.file(
      name, "per-token", samples, rounding: "gptq,passes=2,drift=0.5", memory: 4 << 20, threads: 1)
    #expect(rounded.bytes == again.bytes)
    let tensors = rounded.model.container.tensors.filter { $0.name.contains("experts.") && $0.scheme != nil }
    #expect(!tensors.isEmpty && tensors.allSatisfy { $0.rounding == .gptq })
    let nearest = try Self.file(name, "per-token", samples, rounding: "nearest")
    #expect(try Self.error(rounded.model, name) < Self.error(nearest.model, name))
  }

  /// A text that is too short for all experts: those without a token have a scale per token, which is said.
  @Test(arguments: ["outliertune", "best", "choice,of=per-token+outliertune,rows=8"], [true, false])
  func sitesThatNoTokenReachesAreRecorded(_ method: String, _ readsStatistics: Bool) throws {
    // A choice needs rows, which files do not have.
    if readsStatistics && method != "outliertune" { return }
    let name = "mixtral"
    let samples = Self.samples([1])
    let (plan, file, _) = try Self.file(name, method, samples, rounding: "gptq", statistics: readsStatistics)
    let executor = try Self.executor(Self.source(name))
    let chosen = try Self.chosen(executor, samples.tokens)
    let unreached = executor.graph.sites.map(\.producer).filter { site in
      guard case .expert(let expert, let router)? = executor.graph.rows(of: site) else { return false }
      return chosen[router]?[expert].isEmpty == true
    }
    #expect(unreached.count == 6 && plan.recipe.unreached == unreached)
    #expect(plan.warnings.contains { $0.contains("'\(unreached[0])' and 5 more") })
    #expect(plan.methodRecord["unreached"]?.array?.compactMap(\.string) == unreached)
    // The network whose weights are rounded may send the token elsewhere, but two of four experts are not reached.
    #expect(plan.methodRecord["rounding"]?["unreached"]?.array?.count == 6)
    let graph = try #require(file.graph)
    for site in unreached {
      let linear = try #require(executor.graph.site(producedBy: site)?.consumers.first)
      let producer = try #require(graph.linear(for: linear)?.inputs.first)
      #expect(graph.activations[producer] == (method.hasPrefix("choice") ? .asymmetric(bits: 8) : .dynamic(bits: 8)))
    }
    #expect(file.container.tensors.allSatisfy { $0.shape.elementCount > 0 })
    #expect(try Self.error(file, name).isFinite)
  }

  /// R₁ goes into routers and experts, R₂ into values.
  @Test(arguments: names) func rotationsOfTheStreamKeepTheFunction(_ name: String) throws {
    try withTemporaryFolder { folder in
      let source = try Self.source(name)
      let rotated = try source.rotated(by: OfflineRotation(seed: 5), in: folder)
      let tokens = Self.samples([30]).tokens
      func logits(_ model: SourceModel) throws -> [Float] {
        try Self.executor(model).run(tokens, observe: nil)[0].output("logits").values
      }
      let error = try relativeError(logits(rotated), logits(source))
      #expect(error < 2e-5, "\(name): \(error)")
    }
  }

  // MARK: Layouts

  /// Experts that are stacked, as transformers 5 has them in memory, are those that are not.
  @Test(arguments: [
    ("mixtral", "block_sparse_moe.", ("w1", "w3", "w2")),
    ("qwen3moe", "mlp.", ("gate_proj", "up_proj", "down_proj")),
  ])
  func stackedExpertsAreTheSame(_ name: String, _ module: String, _ linears: (String, String, String)) throws {
    let source = try Self.source(name)
    let tokens = Self.samples([30]).tokens
    let expected = try Self.executor(source).run(tokens, observe: nil)[0].output("logits").values
    try withTemporaryFolder { folder in
      var builder = CheckpointBuilder()
      var stacks: [String: [Int: [String: [Float]]]] = [:]
      var sizes: [String: [Int]] = [:]
      for view in source.checkpoint.tensors {
        let values = try TransformedRows(view: view).values(rows: 0..<view.shape.rowCount)
        let parts = view.name.components(separatedBy: "experts.")
        guard parts.count == 2 else {
          builder.add(view.name.replacingOccurrences(of: module, with: "mlp."), view.shape.dimensions, floats: values)
          continue
        }
        let place = parts[1].split(separator: ".")
        stacks[parts[0], default: [:]][try #require(Int(place[0])), default: [:]][String(place[1])] = values
        sizes[String(place[1])] = view.shape.dimensions
      }
      let (inner, hidden) = (try #require(sizes[linears.0])[0], try #require(sizes[linears.0])[1])
      for (prefix, experts) in stacks {
        let ordered = experts.sorted { $0.key < $1.key }.map(\.value)
        let stack = prefix.replacingOccurrences(of: module, with: "mlp.") + "experts."
        builder.add(
          stack + "gate_up_proj", [ordered.count, 2 * inner, hidden],
          floats: ordered.flatMap { ($0[linears.0] ?? []) + ($0[linears.1] ?? []) })
        builder.add(
          stack + "down_proj", [ordered.count, hidden, inner], floats: ordered.flatMap { $0[linears.2] ?? [] })
      }
      _ = try builder.write(to: folder + "/model.safetensors")
      try FileManager.default.copyItem(
        atPath: Fixtures.path("models/families/\(name)/config.json"), toPath: folder + "/config.json")
      let stacked = try SourceModel(path: folder)
      let logits = try Self.executor(stacked).run(tokens, observe: nil)[0].output("logits").values
      #expect(logits == expected)
      // Packed, each weight has a name and scales of its own; unpacked, the stacks are there again.
      let packed = try convert(stacked.checkpoint, to: folder + "/m.otq")
      let uses = try #require(packed.graph).parameterUses
      let experts = uses.filter { $0.role == .weight && $0.node.contains("experts.") }
      #expect(experts.allSatisfy { packed.container[$0.outputName]?.scheme != nil })
      try unpack(packed, to: folder + "/unpacked.safetensors")
      let unpacked = try Checkpoint.open(folder + "/unpacked.safetensors")
      for view in stacked.checkpoint.tensors { #expect(unpacked[view.name]?.shape == view.shape, "\(view.name)") }
      #expect(try WeightVerification(of: packed, reference: stacked).hasPassed)
    }
  }
}
