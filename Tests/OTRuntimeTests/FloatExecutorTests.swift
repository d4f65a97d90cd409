import OTConversion
import OTFoundation
import OTGraph
import OTModel
import OTRuntime
import Testing
import _OTTestSupport

/// The executor against float64 loops, on random weights.
@Suite struct FloatExecutorTests {
  static let vocabulary = 50

  /// A graph of one attention between linears.
  static func graph(
    heads: Int, groups: Int, headSize: Int, isCausal: Bool, window: Int? = nil, softCap: Float? = nil,
    positions: Attention.Positions
  ) throws -> Graph {
    let width = heads * headSize
    func linear(_ name: String, _ input: Int, _ output: Int, bias: Bool) -> Operation {
      .linear(
        Linear(
          weight: "\(name).weight", bias: bias ? "\(name).bias" : nil, inFeatures: input,
          outFeatures: output, role: .block))
    }
    let attention = Attention(
      headCount: heads, keyValueHeadCount: groups, headSize: headSize, softCap: softCap, isCausal: isCausal,
      window: window, positions: positions)
    return try Graph(
      family: "test",
      nodes: [
        Node("ids", .tokenIDs),
        Node(
          "table", .embedding(Embedding(table: "table", rowCount: vocabulary, size: width)),
          inputs: ["ids"]),
        Node(
          "norm", .layerNorm(Norm(gamma: "g", beta: "b", epsilon: 1e-5, size: width)),
          inputs: ["table"]),
        Node("q", linear("q", width, width, bias: true), inputs: ["norm"]),
        Node("k", linear("k", width, groups * headSize, bias: false), inputs: ["norm"]),
        Node("v", linear("v", width, groups * headSize, bias: true), inputs: ["norm"]),
        Node("mix", .attention(attention), inputs: ["q", "k", "v"]),
        Node("out", linear("out", width, 24, bias: false), inputs: ["mix"]),
      ], outputs: ["hidden": "out", "mixed": "mix"], vocabularySize: vocabulary,
      contextLength: 40)
  }

  static func parameters(_ graph: Graph, seed: UInt64) throws -> ParameterReader {
    let shapes = graph.parameterUses.compactMap { use in
      use.tensor.map { ($0.name, use.shape.dimensions) }
    }
    return ParameterReader(
      try RandomTensors.views(Dictionary(shapes, uniquingKeysWith: { a, _ in a }), seed: seed))
  }

  static func expectAgreement(
    _ graph: Graph, _ parameters: some ParameterSource, _ tokens: [Int], types: [Int]? = nil,
    mask: [Bool]? = nil, seed: UInt64, rows: Range<Int>? = nil
  ) throws {
    let result = try FloatExecutor(graph: graph, parameters: parameters, threadCount: 2)
      .run(tokenIDs: tokens, tokenTypeIDs: types, attentionMask: mask)
    let expected = try DirectInterpreter(graph: graph, parameters: parameters)
      .run(tokens, types: types, mask: mask)
    #expect(Set(result.outputs.keys) == Set(expected.keys))
    for (name, want) in expected {
      let got = try result.output(name)
      let range = want.joined().map(abs).max() ?? 0
      for row in rows ?? 0..<want.count {
        let error = zip(got[row], want[row]).map { abs(Double($0) - $1) }.max() ?? 0
        #expect(error <= 1e-5 * range, "seed \(seed), \(name)[\(row)]: \(error) of \(range)")
      }
    }
  }

  struct Case: Sendable, CustomStringConvertible {
    let description: String
    let heads, groups, headSize: Int
    let isCausal: Bool
    var window: Int?
    var softCap: Float?
    let positions: Attention.Positions
  }

  static let llama3 = Rotary.Scaling.llama3(factor: 8, low: 1, high: 4, contextLength: 64)
  static let cases = [
    Case(description: "plain", heads: 4, groups: 4, headSize: 8, isCausal: true, positions: .none),
    Case(
      description: "both ways", heads: 3, groups: 3, headSize: 5, isCausal: false,
      positions: .none),
    Case(
      description: "one group", heads: 6, groups: 1, headSize: 8, isCausal: true, positions: .none),
    Case(
      description: "rotary", heads: 6, groups: 2, headSize: 8, isCausal: true,
      positions: .rotary(Rotary(theta: 10000, dimensions: 8))),
    Case(
      description: "half rotary, linear", heads: 4, groups: 2, headSize: 8, isCausal: true,
      positions: .rotary(Rotary(theta: 100, dimensions: 4, scaling: .linear(factor: 4)))),
    Case(
      description: "rotary, llama3", heads: 2, groups: 2, headSize: 16, isCausal: true,
      positions: .rotary(Rotary(theta: 500, dimensions: 16, scaling: llama3))),
    Case(
      description: "alibi 8", heads: 8, groups: 8, headSize: 4, isCausal: true, positions: .alibi),
    Case(
      description: "alibi 6", heads: 6, groups: 6, headSize: 4, isCausal: true, positions: .alibi),
    Case(
      description: "alibi 1", heads: 1, groups: 1, headSize: 4, isCausal: true, positions: .alibi),
    Case(
      description: "alibi 13", heads: 13, groups: 13, headSize: 2, isCausal: false,
      positions: .alibi),
    Case(
      description: "window, alibi", heads: 4, groups: 4, headSize: 8, isCausal: true, window: 5, positions: .alibi),
    Case(
      description: "window, cap, rotary", heads: 6, groups: 2, headSize: 8, isCausal: true, window: 9, softCap: 0.25,
      positions: .rotary(Rotary(theta: 10000, dimensions: 8))),
    Case(
      description: "cap, both ways", heads: 2, groups: 1, headSize: 8, isCausal: false, softCap: 0.5,
      positions: .none),
    Case(
      description: "rotary, divided", heads: 2, groups: 2, headSize: 8, isCausal: true,
      positions: .rotary(Rotary(theta: 500, dimensions: 6, scaling: .divided(by: [1, 1.5, 4], amplitude: 1.25)))),
    Case(
      description: "rotary, longrope, short", heads: 2, groups: 2, headSize: 8, isCausal: true,
      positions: .rotary(Rotary(theta: 500, dimensions: 6, scaling: longrope(37)))),
    Case(
      description: "rotary, longrope, long", heads: 2, groups: 2, headSize: 8, isCausal: true,
      positions: .rotary(Rotary(theta: 500, dimensions: 6, scaling: longrope(36)))),
    Case(
      description: "neighbours", heads: 4, groups: 2, headSize: 8, isCausal: true,
      positions: .rotary(Rotary(theta: 500, dimensions: 8, isInterleaved: true))),
    Case(
      description: "some neighbours, divided, both ways", heads: 2, groups: 2, headSize: 10, isCausal: false,
      positions: .rotary(
        Rotary(
          theta: 500, dimensions: 6, scaling: .divided(by: [1, 1.5, 4], amplitude: 1.25), isInterleaved: true))),
    Case(
      description: "growing queries", heads: 4, groups: 2, headSize: 8, isCausal: true,
      positions: .rotary(
        Rotary(theta: 500, dimensions: 8, queryGrowth: Rotary.QueryGrowth(rate: 0.7, length: 5)))),
    Case(
      description: "slopes", heads: 3, groups: 1, headSize: 8, isCausal: true,
      positions: .slopes(LinearBias(slopes: [0.5, 0, 0.01]))),
    // Products of 8 digits and positions of 6, rounded to 8.
    Case(
      description: "rounded slopes", heads: 3, groups: 3, headSize: 8, isCausal: true, window: 20,
      positions: .slopes(LinearBias(slopes: [0.4375, 0.30078125, 1.15625], roundedFactor: 0.375))),
  ]

  static func longrope(_ length: Int) -> Rotary.Scaling {
    .longrope(short: [1, 1.5, 4], long: [2, 3, 10], contextLength: length, amplitude: 1.25)
  }

  @Test(arguments: cases) func attentionAgreesWithDirectLoops(_ test: Case) throws {
    var generator = SeededGenerator()
    let graph = try Self.graph(
      heads: test.heads, groups: test.groups, headSize: test.headSize, isCausal: test.isCausal, window: test.window,
      softCap: test.softCap, positions: test.positions)
    let parameters = try Self.parameters(graph, seed: generator.seed)
    let tokens = (0..<37).map { _ in Int.random(in: 0..<Self.vocabulary, using: &generator) }
    try Self.expectAgreement(graph, parameters, tokens, seed: generator.seed)
    // The first token of each window's length stays visible, so that every row has a key.
    let mask = tokens.indices.map { $0 % (test.window ?? .max) == 0 || Bool.random(using: &generator) }
    try Self.expectAgreement(graph, parameters, tokens, mask: mask, seed: generator.seed)
  }

  @Test(arguments: [16, 32]) func rotationsAgreeWithDirectLoops(_ blockSize: Int) throws {
    var generator = SeededGenerator()
    var graph = try Self.graph(heads: 4, groups: 2, headSize: 16, isCausal: true, positions: .alibi)
    let plain = graph
    for site in graph.sites {
      let scale = (0..<site.size).map { _ in Float.random(in: 0.5...2, using: &generator) }
      let shared = graph.sharedChannels(of: site)
      let transform = SiteTransform(
        scale: shared.map { $0.map { scale[$0] } } ?? scale, rotation: Rotation(blockSize: blockSize))
      graph = try graph.migrating(site, by: transform)
    }
    #expect(graph.nodes.count { $0.name.hasSuffix(".rotation") } == 2)
    let parameters = try Self.parameters(plain, seed: generator.seed)
    let tokens = (0..<37).map { _ in Int.random(in: 0..<Self.vocabulary, using: &generator) }
    try Self.expectAgreement(graph, parameters, tokens, seed: generator.seed)
    // The function is that of the plain graph.
    let rotated = try FloatExecutor(graph: graph, parameters: parameters, threadCount: 2).run(tokenIDs: tokens)
    let original = try FloatExecutor(graph: plain, parameters: parameters, threadCount: 2).run(tokenIDs: tokens)
    let (a, b) = (try rotated.output("hidden").values, try original.output("hidden").values)
    for (a, b) in zip(a, b) { #expect(abs(a - b) < 1e-4, "seed \(generator.seed)") }
  }

  @Test func tokenThatSeesNothingSeesItself() throws {
    let graph = try Self.graph(
      heads: 2, groups: 2, headSize: 4, isCausal: true, positions: .none)
    let parameters = try Self.parameters(graph, seed: 5)
    let executor = try FloatExecutor(graph: graph, parameters: parameters, threadCount: 1)
    let alone = try executor.run(tokenIDs: [7]).output("mixed")
    let masked = try executor.run(tokenIDs: [7, 8], attentionMask: [false, true])
    #expect(try masked.output("mixed")[0] == alone[0])
  }

  /// One node of every other kind.
  static func zoo(_ kind: ActivationKind) throws -> Graph {
    let size = 24
    let part = { ChannelSlice(part: $0, partCount: 3, blockSize: 4) }
    return try Graph(
      family: "test",
      nodes: [
        Node("ids", .tokenIDs), Node("positions", .positionIDs), Node("types", .tokenTypeIDs),
        Node(
          "words", .embedding(Embedding(table: "words", rowCount: 50, size: size)),
          inputs: ["ids"]),
        Node(
          "places",
          .embedding(Embedding(table: "places", rowCount: 42, size: size, rowOffset: 2)),
          inputs: ["positions"]),
        Node(
          "kinds", .embedding(Embedding(table: "kinds", rowCount: 2, size: size)), inputs: ["types"]
        ),
        Node("counted", .countedPositionIDs(CountedPositions(paddingToken: 7))),
        Node(
          "counts", .embedding(Embedding(table: "counts", rowCount: 44, size: size, rowOffset: 3)),
          inputs: ["counted"]),
        Node("numbered", .add, inputs: ["words", "counts"]),
        Node("sum", .add, inputs: ["numbered", "places"]),
        Node("all", .add, inputs: ["sum", "kinds"]),
        Node(
          "bare", .layerNorm(Norm(gamma: nil, beta: nil, epsilon: 1e-12, size: size)),
          inputs: ["all"]),
        Node(
          "rms", .rmsNorm(Norm(gamma: "g", beta: nil, epsilon: 1e-6, size: size)),
          inputs: ["bare"]),
        // Each head of four channels for itself, and heads of six.
        Node(
          "heads", .rmsNorm(Norm(gamma: "h", beta: nil, epsilon: 1e-6, size: size, groupSize: 4)), inputs: ["rms"]),
        Node(
          "groups", .layerNorm(Norm(gamma: "i", beta: "j", epsilon: 1e-5, size: size, groupSize: 6)),
          inputs: ["heads"]),
        Node("a", .channelSlice(part(0)), inputs: ["groups"]),
        Node("b", .channelSlice(part(1)), inputs: ["rms"]),
        Node("c", .channelSlice(part(2)), inputs: ["rms"]),
        Node("function", .activation(kind), inputs: ["a"]),
        Node("scaled", .scale(Scale(factor: -1.75)), inputs: ["b"]),
        Node("capped", .softCap(SoftCap(cap: 0.75)), inputs: ["scaled"]),
        Node("product", .multiply, inputs: ["function", "capped"]),
        Node("affine", .affine, inputs: ["c"]),
        Node(
          "project",
          .linear(
            Linear(weight: "w", bias: nil, inFeatures: 8, outFeatures: 8, role: .block)),
          inputs: ["affine"]),
        Node("result", .add, inputs: ["product", "project"]),
        Node("mean", .meanTokens, inputs: ["result"]),
        Node("last", .lastToken(LastToken(paddingToken: 7)), inputs: ["result"]),
        Node("very_last", .lastToken(LastToken(paddingToken: nil)), inputs: ["result"]),
        Node("first", .firstToken, inputs: ["result"]),
      ],
      outputs: ["hidden": "result", "mean": "mean", "last": "last", "veryLast": "very_last", "pooled": "first"],
      transforms: [
        "affine": ChannelTransform(
          shift: (0..<8).map { Float($0) - 3 }, scale: (0..<8).map { Float($0) / 4 + 0.5 })
      ], vocabularySize: 50, contextLength: 40)
  }

  @Test(arguments: ActivationKind.allCases)
  func otherOperationsAgreeWithDirectLoops(_ kind: ActivationKind) throws {
    var generator = SeededGenerator()
    let graph = try Self.zoo(kind)
    let parameters = try Self.parameters(graph, seed: generator.seed)
    let tokens = (0..<40).map { _ in Int.random(in: 0..<50, using: &generator) }
    let types = tokens.indices.map { $0 < 20 ? 0 : 1 }
    let padded = tokens.dropLast(3) + [7, 7, 7]
    try Self.expectAgreement(graph, parameters, Array(padded), types: types, seed: generator.seed)
    try Self.expectAgreement(graph, parameters, [7, 7], types: [0, 0], seed: generator.seed)
    try Self.expectAgreement(graph, parameters, tokens, types: types, seed: generator.seed)
    let mask = tokens.indices.map { _ in Bool.random(using: &generator) }
    try Self.expectAgreement(graph, parameters, tokens, types: types, mask: mask, seed: generator.seed)
  }

  /// Attention to both sides within a window, and with biases by distance.
  @Test(arguments: [nil, 1, 5, 100] as [Int?]) func windowsToBothSidesAndDistances(_ window: Int?) throws {
    var generator = SeededGenerator()
    let table = DistanceTable(table: "distances", starts: [0, 1, 2, 5, 17, 33])
    let tokens = (0..<40).map { _ in Int.random(in: 0..<50, using: &generator) }
    let mask = tokens.indices.map { $0 % 7 != 3 }
    for positions in [Attention.Positions.distances(table), .none, .rotary(Rotary(theta: 100, dimensions: 8))] {
      let graph = try Self.graph(
        heads: 4, groups: 2, headSize: 8, isCausal: false, window: window, positions: positions)
      let parameters = try Self.parameters(graph, seed: generator.seed)
      try Self.expectAgreement(graph, parameters, tokens, seed: generator.seed)
      // Where a token sees itself alone, the formula has nothing for one that is hidden.
      let seen = window == 1 ? nil : mask
      try Self.expectAgreement(graph, parameters, tokens, mask: seen, seed: generator.seed)
      // Sequences of other lengths beside it.
      let executor = try FloatExecutor(graph: graph, parameters: parameters, threadCount: 2)
      let short = Array(tokens.prefix(9))
      let together = try executor.run([TokenSequence(short), TokenSequence(tokens)], observe: nil)
      let expected = try DirectInterpreter(graph: graph, parameters: parameters).run(short)
      let flat = try #require(expected["hidden"]).joined()
      let range = flat.map(abs).max() ?? 0
      for (value, want) in zip(try together[0].output("hidden").values, flat) {
        #expect(abs(Double(value) - want) <= 1e-5 * range, "seed \(generator.seed)")
      }
    }
  }

  @Test func resultDependsNeitherOnThreadsNorOnCaching() throws {
    let graph = try Self.graph(
      heads: 64, groups: 8, headSize: 32, isCausal: true,
      positions: .rotary(Rotary(theta: 10000, dimensions: 32)))
    let parameters = try Self.parameters(graph, seed: 11)
    let tokens = (0..<40).map { $0 * 7 % 50 }
    let expected = try FloatExecutor(graph: graph, parameters: parameters, threadCount: 1)
      .run(tokenIDs: tokens)
    for threadCount in [2, 7] {
      let executor = try FloatExecutor(
        graph: graph, parameters: parameters, threadCount: threadCount, cachesParameters: true)
      for _ in 0..<2 {
        let result = try executor.run(tokenIDs: tokens)
        #expect(result.outputs == expected.outputs)
      }
    }
  }

  @Test func observerSeesEveryValueInOrder() throws {
    let graph = try Self.zoo(.relu)
    let parameters = try Self.parameters(graph, seed: 3)
    var seen: [String] = []
    var last: [Float] = []
    let result = try FloatExecutor(graph: graph, parameters: parameters, threadCount: 2)
      .run(tokenIDs: [1, 2, 3]) { value in
        seen.append(value.name)
        #expect(value.values.count == value.rowCount * value.channelCount)
        #expect(value.channelCount == graph.channelCount(of: value.name))
        last = Array(value.values)
      }
    let expected = graph.nodes.map(\.name).filter { graph.channelCount(of: $0) != 0 }
    #expect(seen == expected)
    #expect(try result.output("pooled").values == last)
  }
}
