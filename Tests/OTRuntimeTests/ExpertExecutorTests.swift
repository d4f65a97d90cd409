import OTGraph
import OTRuntime
import Testing
import _OTTestSupport

/// Routers, experts, clamped gates and sinks, against the direct interpretation in double precision.
@Suite struct ExpertExecutorTests {
  private static func linear(
    _ name: String, _ from: Int, _ to: Int, bias: Bool = false, role: Linear.Role = .block, expert: Int? = nil
  ) -> OTGraph.Operation {
    .linear(
      Linear(
        weight: "\(name).weight", bias: bias ? "\(name).bias" : nil, inFeatures: from, outFeatures: to, role: role,
        expert: expert))
  }

  /// A layer of attention with sinks, one of experts, and one expert that all tokens have.
  private static func graph(_ routing: Routing, window: Int?, inner: Int) throws -> Graph {
    let (width, headSize) = (12, 6)
    let attention = Attention(
      headCount: 2, keyValueHeadCount: 1, headSize: headSize, isCausal: true, window: window,
      positions: .rotary(Rotary(theta: 100, dimensions: headSize)), sinks: "sinks")
    var nodes: [Node] = [
      Node("tokens", .tokenIDs),
      Node("table", .embedding(Embedding(table: "table", rowCount: 50, size: width)), inputs: ["tokens"]),
      Node("q", linear("q", width, width), inputs: ["table"]),
      Node("k", linear("k", width, headSize), inputs: ["table"]),
      Node("v", linear("v", width, headSize), inputs: ["table"]),
      Node("mix", .attention(attention), inputs: ["q", "k", "v"]),
      Node("middle", .add, inputs: ["table", "mix"]),
      Node("norm", .rmsNorm(Norm(gamma: "gamma", beta: nil, epsilon: 1e-5, size: width)), inputs: ["middle"]),
      Node("scores", linear("scores", width, routing.expertCount, bias: true, role: .router), inputs: ["norm"]),
      Node("router", .routing(routing), inputs: ["scores"]),
    ]
    var experts: [String] = []
    for expert in 0..<routing.expertCount {
      func name(_ part: String) -> String { "e\(expert).\(part)" }
      func half(_ part: Int) -> OTGraph.Operation {
        .channelSlice(ChannelSlice(part: part, partCount: 2, blockSize: 1))
      }
      let both = linear(name("both"), width, 2 * inner, bias: true, expert: expert)
      let gate = OTGraph.Operation.clampedGate(ClampedGate(limit: 0.5, slope: 1.7))
      nodes += [
        Node(name("both"), both, inputs: ["norm", "router"]), Node(name("gate"), half(0), inputs: [name("both")]),
        Node(name("up"), half(1), inputs: [name("both")]),
        Node(name("gated"), gate, inputs: [name("gate"), name("up")]),
        Node(name("down"), linear(name("down"), inner, width, bias: true), inputs: [name("gated")]),
      ]
      experts.append(name("down"))
    }
    let shared = Routing(expertCount: 1, chosenCount: 1, function: .sigmoid, isNormalized: false)
    nodes += [
      Node("sum", .mixture(Mixture(expertCount: routing.expertCount)), inputs: ["router"] + experts),
      Node("shared.scores", linear("shared.scores", width, 1, role: .router), inputs: ["norm"]),
      Node("shared.router", .routing(shared), inputs: ["shared.scores"]),
      Node("shared", linear("shared", width, width, expert: 0), inputs: ["norm", "shared.router"]),
      Node("shared.sum", .mixture(Mixture(expertCount: 1)), inputs: ["shared.router", "shared"]),
      Node("both", .add, inputs: ["sum", "shared.sum"]), Node("out", .add, inputs: ["middle", "both"]),
    ]
    return try Graph(family: "test", nodes: nodes, outputs: ["hidden": "out"], vocabularySize: 50, contextLength: 64)
  }

  @Test(
    arguments: [
      (Routing(expertCount: 5, chosenCount: 2, isNormalized: true), nil),
      (Routing(expertCount: 4, chosenCount: 1, isNormalized: false), 3),
      (Routing(expertCount: 3, chosenCount: 3, isNormalized: false), 7),
      (Routing(expertCount: 6, chosenCount: 4, function: .sigmoid, isNormalized: true), nil),
      (
        Routing(
          expertCount: 6, chosenCount: 2, isNormalized: false,
          groups: Routing.Groups(count: 3, chosenCount: 2, rankedCount: 1), factor: 1.5), nil
      ),
      (
        Routing(
          expertCount: 8, chosenCount: 3, function: .sigmoid, isNormalized: true, choiceBias: "choice",
          groups: Routing.Groups(count: 4, chosenCount: 2, rankedCount: 2), factor: 2.5), nil
      ),
      (Routing(expertCount: 5, chosenCount: 2, isNormalized: true, choiceBias: "choice"), nil),
    ] as [(Routing, Int?)])
  func expertsAgreeWithTheDirectInterpretation(_ routing: Routing, _ window: Int?) throws {
    for seed: UInt64 in [3, 4] {
      let graph = try Self.graph(routing, window: window, inner: 10)
      let parameters = try FloatExecutorTests.parameters(graph, seed: seed)
      let tokens = (0..<40).map { ($0 * 17 + Int(seed)) % 50 }
      try FloatExecutorTests.expectAgreement(graph, parameters, tokens, seed: seed)
    }
  }

  /// Of equal scores the first are chosen, and NaN is the last.
  @Test func scoresAreOrdered() {
    let routing = Routing(expertCount: 5, chosenCount: 2, isNormalized: true)
    func chosen(_ scores: [Float]) -> [Int] {
      var weights = [Float](repeating: 9, count: 5)
      scores.withUnsafeBufferPointer { scores in
        weights.withUnsafeMutableBufferPointer { routing.choose(scores, into: $0) }
      }
      return weights.indices.filter { weights[$0] != 0 }
    }
    #expect(chosen([1, 1, 1, 1, 1]) == [0, 1])
    #expect(chosen([0, 3, 1, 3, 2]) == [1, 3])
    #expect(chosen([-5, -9, -5, -5, -7]) == [0, 2])
    #expect(chosen([.nan, 1, .nan, 2, .nan]) == [1, 3])
    #expect(chosen([.nan, .nan, .nan, 2, .nan]).count == 2)
  }

  /// Groups go by their best ranks, of equal ones the first; the bias has a say in the choice alone, and what is no
  /// number is chosen last.
  @Test func groupsAreChosen() {
    func weights(_ scores: [Float], _ bias: [Float]?, groups: Int, of count: Int, ranked: Int) -> [Float] {
      let routing = Routing(
        expertCount: scores.count, chosenCount: 2, function: .sigmoid, isNormalized: false,
        groups: Routing.Groups(count: count, chosenCount: groups, rankedCount: ranked), factor: 2)
      var weights = [Float](repeating: 9, count: scores.count)
      scores.withUnsafeBufferPointer { scores in
        weights.withUnsafeMutableBufferPointer { routing.choose(scores, choiceBias: bias, into: $0) }
      }
      return weights
    }
    // σ(0) = 1/2, times the factor 2.
    #expect(weights([0, 0, 0, 0], nil, groups: 1, of: 2, ranked: 2) == [1, 1, 0, 0])
    #expect(weights([0, 0, 0, 0], [0, 0, 0, 0.1], groups: 1, of: 2, ranked: 2) == [0, 0, 1, 1])
    // The best is in the first group, the best pair in the second.
    #expect(weights([0, -9, 0, 0], [0.2, 0, 0, 0], groups: 1, of: 2, ranked: 2) == [0, 0, 1, 1])
    #expect(weights([0, 0, 0, 0], [0.2, 0, 0.1, 0], groups: 1, of: 2, ranked: 1) == [1, 1, 0, 0])
    #expect(weights([0, 0, 0, 0], [-5, -6, -7, -8], groups: 1, of: 2, ranked: 2) == [1, 1, 0, 0])
    #expect(weights([.nan, 0, 0, 0], nil, groups: 1, of: 2, ranked: 1)[1...] == [1, 0, 0])
    #expect(weights([.nan, .nan, 0, 0, 0, 0], nil, groups: 2, of: 3, ranked: 2) == [0, 0, 1, 1, 0, 0])
    #expect(weights([0, -2, -1, 3, 0, 0], nil, groups: 3, of: 3, ranked: 2).filter { $0 != 0 }.count == 2)
  }
}
