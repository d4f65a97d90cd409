import OTFoundation
import OTGraph
import OTTensor
import Testing

/// What decoders beside LLaMA's kin need, in a container and in migration.
@Suite("Operations of other decoders") struct DecoderOperationsTests {
  private func reread(_ graph: Graph) throws -> Graph {
    try Graph(json: try parsed(graph.json.text()), file: "a.otq") { _ in [] }
  }

  private func attention(_ positions: Attention.Positions, headSize: Int = 2) throws -> Graph {
    let heads = 4 / headSize
    let attention = Attention(
      headCount: heads, keyValueHeadCount: heads, headSize: headSize, isCausal: true, positions: positions)
    return try smallGraph([Node("mixed", .attention(attention), inputs: ["first", "second", "third"])], site: "mixed")
  }

  /// What a reader of plain rotations would misread has a name that it refuses.
  @Test func rotationsSurvive() throws {
    let growth = Rotary.QueryGrowth(rate: 0.1, length: 16384)
    for rotary in [
      Rotary(theta: 100, dimensions: 2), Rotary(theta: 100, dimensions: 2, isInterleaved: true),
      Rotary(theta: 100, dimensions: 2, scaling: .linear(factor: 3), queryGrowth: growth),
      Rotary(theta: 100, dimensions: 2, isInterleaved: true, queryGrowth: growth),
    ] {
      let graph = try attention(.rotary(rotary))
      #expect(try reread(graph) == graph)
      let isPlain = !rotary.isInterleaved && rotary.queryGrowth == nil
      #expect(graph.json.text().contains(#""kind":"rotary""#) == isPlain)
    }
    // Growth is that of whole heads, and by steps.
    let part = Rotary(theta: 100, dimensions: 2, queryGrowth: growth)
    #expect(try refusal { _ = try attention(.rotary(part), headSize: 4) }.rule == "graph-channels")
    for (rate, length) in [(-0.1, 8), (0, 8), (.nan, 8), (.infinity, 8)] as [(Double, Int)] {
      let odd = Rotary(theta: 100, dimensions: 2, queryGrowth: Rotary.QueryGrowth(rate: rate, length: length))
      #expect(try refusal { _ = try attention(.rotary(odd)) }.rule == "graph-channels", "\(rate)")
    }
    let text = try attention(.rotary(Rotary(theta: 100, dimensions: 2, queryGrowth: growth))).json.text()
    for length in ["0", "-1", "1.5"] {
      let hostile = text.replacing("16384", with: length)
      #expect(
        try refusal { _ = try Graph(json: parsed(hostile), file: "a.otq") { _ in [] } }.rule == "graph-json",
        "\(length)")
    }
  }

  @Test func slopesSurvive() throws {
    for bias in [LinearBias(slopes: [0.5, 0.1]), LinearBias(slopes: [0.5, 0], roundedFactor: 0.3)] {
      let graph = try attention(.slopes(bias))
      #expect(try reread(graph) == graph)
    }
    let odd = [
      LinearBias(slopes: [0.5]), LinearBias(slopes: []), LinearBias(slopes: [0.5, -1]), LinearBias(slopes: [.nan, 1]),
      LinearBias(slopes: [.infinity, 1]), LinearBias(slopes: [1, 1], roundedFactor: .nan),
    ]
    for bias in odd { #expect(try refusal { _ = try attention(.slopes(bias)) }.rule == "graph-channels", "\(bias)") }
  }

  @Test func boundsSurvive() throws {
    let graph = try smallGraph([Node("bounded", .clamp(Clamp(bound: 0.22)), inputs: ["first"])], site: "bounded")
    #expect(try reread(graph) == graph)
    // A bound lets no transform through.
    let site = try #require(graph.site(producedBy: "bounded"))
    #expect(graph.pushability(of: site) == SitePushability(shift: false, scale: false))
    for bound in [Float.nan, .infinity, 0, -2] {
      let node = Node("bounded", .clamp(Clamp(bound: bound)), inputs: ["first"])
      #expect(try refusal { _ = try smallGraph([node], site: "bounded") }.rule == "graph-channels")
    }
  }

  @Test func normsOfHeadsSurvive() throws {
    func normed(_ groupSize: Int?, _ hasOwnGains: Bool) throws -> Graph {
      let norm = Norm(
        gamma: "gains", beta: nil, epsilon: 1e-5, size: 4, groupSize: groupSize, hasOwnGains: hasOwnGains)
      return try smallGraph([Node("normed", .layerNorm(norm), inputs: ["first"])], site: "normed")
    }
    let graph = try normed(2, true)
    #expect(try reread(graph) == graph)
    #expect(graph.json.text().contains("head_layer_norm"))
    #expect(graph.parameterUses(of: "normed").map(\.shape.dimensions) == [[2, 2]])
    let shared = try normed(2, false)
    #expect(try reread(shared) == shared)
    #expect(shared.parameterUses(of: "normed").map(\.shape.dimensions) == [[2]])
    #expect(try refusal { _ = try normed(nil, true) }.rule == "graph-channels")
    func separate(_ gains: [SourceTensor], gamma: SourceTensor? = nil, hasOwnGains: Bool = true) throws -> Graph {
      let norm = Norm(
        gamma: gamma, beta: nil, epsilon: 1e-5, size: 4, groupSize: 2, hasOwnGains: hasOwnGains, groupGains: gains)
      return try smallGraph([Node("normed", .layerNorm(norm), inputs: ["first"])], site: "normed")
    }
    let apart = try separate(["one", "two"])
    #expect(try reread(apart) == apart)
    #expect(apart.parameterUses(of: "normed").map(\.tensor) == ["one", "two"])
    #expect(try refusal { _ = try separate(["one"]) }.rule == "graph-channels")
    #expect(try refusal { _ = try separate(["one", "two", "three"]) }.rule == "graph-channels")
    #expect(try refusal { _ = try separate(["one", "two"], gamma: "gains") }.rule == "graph-channels")
    #expect(try refusal { _ = try separate(["one", "two"], hasOwnGains: false) }.rule == "graph-channels")
  }

  /// A shift and a scale of values go through the slice into the fused linear, wherever the queries stand.
  @Test func slicesOfSeveralPartsSurvive() throws {
    func sliced(_ slices: [ChannelSlice]) throws -> Graph {
      let fused = Linear(weight: "fused", bias: nil, inFeatures: 4, outFeatures: 8, role: .block)
      let names = ["queries", "keys", "values"]
      let nodes = zip(names, slices).map { Node($0, .channelSlice($1), inputs: ["fused"]) }
      let attention = Attention(
        headCount: 2, keyValueHeadCount: 1, headSize: 2, isCausal: true, positions: .none)
      return try smallGraph(
        [Node("fused", .linear(fused), inputs: ["norm"])] + nodes
          + [Node("mixed", .attention(attention), inputs: names)], site: "mixed")
    }
    func slice(_ part: Int, _ width: Int = 1) -> ChannelSlice {
      ChannelSlice(part: part, partCount: 4, blockSize: 2, width: width)
    }
    let graph = try sliced([slice(0, 2), slice(2), slice(3)])
    #expect(try reread(graph) == graph)
    let site = try #require(graph.site(producedBy: "mixed"))
    #expect(graph.pushability(of: site) == SitePushability(shift: true, scale: true))
    let moved = try graph.migrating(site, by: ChannelTransform(scale: [2, 3, 2, 3]))
    #expect(moved.transforms["fused"]?.scale == [1, 1, 1, 1, 1, 1, 2, 3])
    // Parts that two slices read cannot change.
    let twice = try sliced([slice(0, 2), slice(3), slice(3)])
    let other = try #require(twice.site(producedBy: "mixed"))
    #expect(twice.pushability(of: other) == SitePushability(shift: false, scale: false))
    for slices in [
      [slice(3, 2), slice(2), slice(3)], [slice(0, 0), slice(2), slice(3)], [slice(-1, 2), slice(2), slice(3)],
    ] {
      #expect(try refusal { _ = try sliced(slices) }.rule == "graph-channels")
    }
  }
}
