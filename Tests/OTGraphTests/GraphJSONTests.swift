import Foundation
import OTFoundation
import OTGraph
import OTJSON
import OTTensor
import Testing
import _OTModelSupport
import _OTTestSupport

@Suite("Graph as JSON")
struct GraphJSONTests {
  private func reread(_ graph: Graph) throws -> Graph {
    let vectors = Dictionary(
      uniqueKeysWithValues: graph.transformVectors.map { ($0.name, $0.values) })
    return try Graph(json: try parsed(graph.json.text()), file: "a.otq") {
      try #require(vectors[$0])
    }
  }

  @Test(arguments: Fixture.allCases)
  func everyFamilySurvives(_ fixture: Fixture) throws {
    let graph = try fixture.graph()
    #expect(try reread(graph) == graph)
    #expect(try fixture.graph().json.text() == graph.json.text())
    let unconfigured = try Families.graph(configuration: nil, tensors: try fixture.catalog())
    #expect(try reread(unconfigured) == unconfigured)
  }

  @Test(arguments: Fixture.allCases)
  func transformsAndQuantizationSurvive(_ fixture: Fixture) throws {
    var generator = SeededGenerator()
    var graph = try fixture.graph()
    for site in graph.sites {
      let shift = (0..<site.size).map { _ in Float.random(in: -9...9, using: &generator) }
      let scale = Float.random(in: 0.1...9, using: &generator)
      let scales = [Float](repeating: scale, count: site.size)
      let pushesShift = graph.pushability(of: site).shift && graph.sharedChannels(of: site) == nil
      graph = try graph.migrating(
        site, by: ChannelTransform(shift: pushesShift ? shift : nil, scale: scales))
    }
    let kinds: [ActivationQuantization] = [
      .float, .dynamic(bits: 6), .static(bits: 8), .static(bits: 6, zero: -32),
      .dynamic(bits: 6, groupSize: 64), .asymmetric(bits: 5), .asymmetric(bits: 7, groupSize: 32),
    ]
    let activations = graph.sites.enumerated().map { ($1.producer, kinds[$0 % kinds.count]) }
    graph = try graph.quantizing(Dictionary(uniqueKeysWithValues: activations))
    #expect(!graph.transforms.isEmpty)
    #expect(try reread(graph) == graph, "seed \(generator.seed)")
  }

  @Test(arguments: Fixture.allCases) func splitChannelsSurvive(_ fixture: Fixture) throws {
    var graph = try fixture.graph()
    for (index, site) in graph.sites.enumerated() {
      let channels = ChannelChoice([1, 2, site.size - 1], isRest: index % 2 == 1)
      graph = try graph.migrating(
        site,
        by: SiteTransform(
          ChannelTransform(scale: [Float](repeating: 3, count: site.size)), floatChannels: channels))
    }
    #expect(try reread(graph) == graph)
    for (text, change) in [
      (#""channels":[1,2,"#, #""channels":[2,2,"#), (#""without":[1,2,"#, #""channels":[1],"without":[1,2,"#),
      (#""channels":[1,2,"#, #""channels":[1,0.5,"#), (#""channels":[1,2,"#, #""others":[1,2,"#),
      (#""size":"#, #""sizes":"#),
    ] {
      let gather = try #require(graph.json.text().range(of: #""operation":"gather""#))
      let json = graph.json.text()
      let start = json[..<gather.lowerBound].lastIndex(of: "{") ?? json.startIndex
      let changed = json[..<start] + json[start...].replacingOccurrences(of: text, with: change)
      let refusal = #expect(throws: Refusal.self) {
        try Graph(json: try parsed(String(changed)), file: "a.otq") { _ in [Float](repeating: 3, count: 128) }
      }
      #expect(["graph-json", "graph-channels"].contains(refusal?.rule ?? ""), "\(change): \(refusal?.rule ?? "")")
    }
  }

  @Test func scalingOfRotationsSurvives() throws {
    for scaling in [
      Rotary.Scaling.linear(factor: 2.5),
      .llama3(factor: 8, low: 1, high: 4, contextLength: 8192), .divided(by: [1.0625], amplitude: 1.2),
      .longrope(short: [1], long: [31.5], contextLength: 4096, amplitude: 1.1902380714238083),
    ] {
      let graph = try mixed(Rotary(theta: 500_000, dimensions: 2, scaling: scaling))
      #expect(try reread(graph) == graph)
    }
  }

  /// A graph of an attention with heads of two channels.
  private func mixed(
    _ rotary: Rotary, isCausal: Bool = true, window: Int? = nil, softCap: Float? = nil
  ) throws -> Graph {
    let attention = Attention(
      headCount: 2, keyValueHeadCount: 1, headSize: 2, scale: 0.1, softCap: softCap, isCausal: isCausal,
      window: window, positions: .rotary(rotary))
    let half = Linear(weight: "half", bias: nil, inFeatures: 4, outFeatures: 2, role: .block)
    return try smallGraph(
      [
        Node("half", .linear(half), inputs: ["norm"]),
        Node("mixed", .attention(attention), inputs: ["first", "half", "half"]),
      ], site: "mixed")
  }

  /// What a reader without windows and caps would misread has a name that it refuses.
  @Test func windowsAndCapsSurvive() throws {
    let rotary = Rotary(theta: 100, dimensions: 2)
    #expect(try mixed(rotary).json.text().contains(#""operation":"attention""#))
    for (window, cap, isCausal) in [(4, nil, true), (nil, 0.3, true), (1, 50, true), (3, nil, false)]
      as [(Int?, Float?, Bool)]
    {
      let graph = try mixed(rotary, isCausal: isCausal, window: window, softCap: cap)
      #expect(try reread(graph) == graph)
      let text = graph.json.text()
      #expect(text.contains(#""operation":"bounded_attention""#) && !text.contains(#""operation":"attention""#))
    }
  }

  @Test func hostileWindowsAndCaps() throws {
    let rotary = Rotary(theta: 100, dimensions: 2)
    for window in [0, -1, .max] {
      #expect(try refusal { _ = try mixed(rotary, window: window) }.rule == "graph-channels", "\(window)")
    }
    for cap in [0, -1, .nan, .infinity] as [Float] {
      #expect(try refusal { _ = try mixed(rotary, softCap: cap) }.rule == "graph-channels", "\(cap)")
    }
    let odd: [Rotary.Scaling] = [
      .divided(by: [], amplitude: 1), .divided(by: [1, 2], amplitude: 1), .divided(by: [0], amplitude: 1),
      .divided(by: [.nan], amplitude: 1), .divided(by: [1], amplitude: 0),
      .longrope(short: [1], long: [1, 2], contextLength: 8, amplitude: 1),
      .longrope(short: [-1], long: [1], contextLength: 8, amplitude: 1),
      .longrope(short: [1], long: [1], contextLength: 0, amplitude: 1),
    ]
    for scaling in odd {
      let error = try refusal { _ = try mixed(Rotary(theta: 100, dimensions: 2, scaling: scaling)) }
      #expect(error.rule == "graph-channels", "\(scaling)")
    }
  }

  /// Heads of values of three channels beside keys of two, of which one is shared by all heads.
  private func latent(valueSize: Int = 3, sizes: [Int] = [1, 1], headCount: Int = 2) throws -> Graph {
    let attention = Attention(
      headCount: 2, keyValueHeadCount: 2, headSize: 2, valueSize: valueSize, isCausal: true, positions: .none)
    func linear(_ name: String, _ size: Int) -> Node {
      Node(
        name, .linear(Linear(weight: .named(name), bias: nil, inFeatures: 4, outFeatures: size, role: .block)),
        inputs: ["norm"])
    }
    let concatenation = HeadConcatenation(headCount: headCount, sizes: sizes)
    return try smallGraph(
      [
        linear("shared", 1), linear("own", 2), linear("values", 6),
        Node("keys", .headConcatenation(concatenation), inputs: ["shared", "own"]),
        Node("wide", .attention(attention), inputs: ["first", "keys", "values"]),
        Node(
          "mixed", .linear(Linear(weight: "out", bias: nil, inFeatures: 6, outFeatures: 4, role: .block)),
          inputs: ["wide"]),
      ], site: "mixed")
  }

  @Test func otherSizesOfValuesSurvive() throws {
    let graph = try latent()
    #expect(try reread(graph) == graph && graph.channelCount(of: "wide") == 6 && graph.channelCount(of: "keys") == 4)
    let text = graph.json.text()
    #expect(text.contains(#""operation":"bounded_attention""#) && text.contains(#""valueSize":3"#))
    #expect(text.contains(#""operation":"head_concatenation""#) && text.contains(#""sizes":[1,1]"#))
    for valueSize in [0, -1, 2, .max] {
      #expect(try refusal { _ = try latent(valueSize: valueSize) }.rule == "graph-channels", "\(valueSize)")
    }
    for sizes in [[], [1], [1, 1, 1]] as [[Int]] {
      #expect(try refusal { _ = try latent(sizes: sizes) }.rule.hasPrefix("graph-"), "\(sizes)")
    }
    for sizes in [[0, 1], [1, 3], [1, .max], [-1, 1]] {
      #expect(try refusal { _ = try latent(sizes: sizes) }.rule == "graph-channels", "\(sizes)")
    }
    for headCount in [0, 3, -1, .max] {
      #expect(try refusal { _ = try latent(headCount: headCount) }.rule == "graph-channels", "\(headCount)")
    }
  }

  /// An attention with biases by distance, whose table is a parameter.
  private func biased(_ starts: [Int]) throws -> Graph {
    let attention = Attention(
      headCount: 2, keyValueHeadCount: 2, headSize: 2, isCausal: false,
      positions: .distances(DistanceTable(table: "distances", starts: starts)))
    return try smallGraph([Node("mixed", .attention(attention), inputs: ["first", "second", "third"])], site: "mixed")
  }

  @Test func distancesSurvive() throws {
    let graph = try biased([0, 1, 4])
    #expect(try reread(graph) == graph)
    #expect(graph.json.text().contains(#""operation":"bounded_attention""#))
    let uses = graph.parameterUses(of: "mixed")
    #expect(uses.map(\.role) == [.distances] && uses[0].shape.dimensions == [6, 2] && uses[0].isUnchanged)
    for starts in [[], [1, 2], [0, 2, 2], [0, -1], [0, .max]] as [[Int]] {
      #expect(try refusal { _ = try biased(starts) }.rule == "graph-channels", "\(starts)")
    }
  }

  @Test func countedPositionsSurvive() throws {
    let positions = CountedPositions(paddingToken: 3)
    #expect(positions.ids(of: [3, 5, 3, 3, 6, 7]) == [-1, 0, -1, -1, 1, 2])
    let table = Embedding(table: "places", rowCount: 9, size: 4, rowOffset: 4)
    let graph = try smallGraph(
      [
        Node("counted", .countedPositionIDs(positions)), Node("places", .embedding(table), inputs: ["counted"]),
        Node("moved", .add, inputs: ["first", "places"]),
      ], site: "moved")
    #expect(try reread(graph) == graph && graph.countsPositions)
    let node = Node("counted", .countedPositionIDs(CountedPositions(paddingToken: -1)))
    #expect(try refusal { _ = try smallGraph([node], site: "first") }.rule == "graph-channels")
  }

  @Test func constantsSurvive() throws {
    let nodes = [
      Node("scaled", .scale(Scale(factor: 0.22)), inputs: ["first"]),
      Node("capped", .softCap(SoftCap(cap: 30)), inputs: ["scaled"]),
    ]
    let graph = try smallGraph(nodes, site: "capped")
    #expect(try reread(graph) == graph)
    // Neither lets a transform through: it stays on the edge.
    let site = try #require(graph.site(producedBy: "capped"))
    #expect(graph.pushability(of: site) == SitePushability(shift: false, scale: false))
    for factor in [Float.nan, .infinity] {
      let node = Node("scaled", .scale(Scale(factor: factor)), inputs: ["first"])
      #expect(try refusal { _ = try smallGraph([node], site: "scaled") }.rule == "graph-channels")
    }
    for cap in [Float.nan, .infinity, 0, -2] {
      let node = Node("capped", .softCap(SoftCap(cap: cap)), inputs: ["first"])
      #expect(try refusal { _ = try smallGraph([node], site: "capped") }.rule == "graph-channels")
    }
  }

  private static let plain = """
    {"family": "test", "outputs": {"hidden": "norm"}, "nodes": [
     {"name": "ids", "operation": "token_ids"},
     {"name": "table", "operation": "embedding", "inputs": ["ids"], "table": "t", "rowCount": 8,
      "size": 4, "rowOffset": 0},
     {"name": "first", "operation": "linear", "inputs": ["table"], "weight": "w",
      "inFeatures": 4, "outFeatures": 4, "role": "block"},
     {"name": "norm", "operation": "layer_norm", "inputs": ["first"], "epsilon": 1e-5, "size": 4}],
     "transforms": {}, "activations": {}}
    """

  @Test func theUntouchedTextIsAccepted() throws {
    let graph = try Graph(json: try parsed(Self.plain)) { _ in [] }
    #expect(graph.nodes.count == 4 && graph.site(producedBy: "table")?.consumers == ["first"])
  }

  /// Each row replaces one part of the text above and names the rule that breaks.
  @Test(arguments: [
    (#""family": "test""#, #""family": 7"#, "graph-json"),
    (#""outputs": {"hidden": "norm"}"#, #""outputs": {}"#, "graph-output"),
    (#""hidden": "norm""#, #""hidden": "nothing""#, "graph-output"),
    (#""hidden": "norm""#, #""hidden": "ids""#, "graph-output"),
    (#""hidden": "norm""#, #""hidden": 1"#, "graph-json"),
    (#""hidden": "norm""#, #""pooled": "norm""#, "graph-rows"),
    (#""outputs": {"hidden""#, #""vocabularySize": 8, "outputs": {"logits""#, "graph-vocabulary"),
    (
      #""size": 4}]"#,
      #""size": 4}, {"name": "f", "operation": "first_token", "inputs": ["norm"]},"#
        + #"{"name": "s", "operation": "add", "inputs": ["f", "norm"]}]"#, "graph-rows"
    ),
    (
      #""size": 4}]"#,
      #""size": 4}, {"name": "f", "operation": "first_token", "inputs": ["norm"]},"#
        + #"{"name": "s", "operation": "first_token", "inputs": ["f"]}]"#, "graph-rows"
    ),
    (#""token_ids""#, #""token_idz""#, "graph-json"),
    (#""name": "first""#, #""name": "table""#, "graph-name"),
    (#""name": "first""#, #""name": """#, "graph-name"),
    (#""name": "first""#, #""name": "a\nb""#, "graph-name"),
    (#""inputs": ["table"]"#, #""inputs": ["norm"]"#, "graph-input"),
    (#""inputs": ["table"]"#, #""inputs": ["first"]"#, "graph-input"),
    (#""inputs": ["table"]"#, #""inputs": ["nobody"]"#, "graph-input"),
    (#""inputs": ["table"]"#, #""inputs": []"#, "graph-input"),
    (#""inputs": ["table"]"#, #""inputs": ["table", "table"]"#, "graph-input"),
    (#""inputs": ["table"]"#, #""inputs": [3]"#, "graph-json"),
    (#""inputs": ["table"]"#, #""inputs": ["ids"]"#, "graph-channels"),
    (#""inputs": ["ids"]"#, #""inputs": "ids""#, "graph-json"),
    (#""inFeatures": 4"#, #""inFeatures": 5"#, "graph-channels"),
    (#""inFeatures": 4"#, #""inFeatures": 4.0"#, "graph-json"),
    (#""outFeatures": 4"#, #""outFeatures": -4"#, "graph-channels"),
    (#""outFeatures": 4"#, #""outFeatures": 9223372036854775807"#, "graph-channels"),
    (#""rowCount": 8"#, #""rowCount": 0"#, "graph-channels"),
    (#""rowOffset": 0"#, #""rowOffset": 8"#, "graph-channels"),
    (#""rowOffset": 0"#, #""rowOffset": -1"#, "graph-channels"),
    (#""role": "block""#, #""role": "other""#, "graph-json"),
    (#""epsilon": 1e-5"#, #""epsilon": -1"#, "graph-channels"),
    (#""epsilon": 1e-5"#, #""epsilon": 1e300"#, "graph-channels"),
    (#""transforms": {}"#, #""transforms": {"nobody": ["scale"]}"#, "graph-transform"),
    (#""transforms": {}"#, #""transforms": {"first": ["size"]}"#, "graph-json"),
    (#""transforms": {}"#, #""transforms": {"table": ["scale"]}"#, "graph-transform"),
    (#""transforms": {}"#, #""transforms": {"first": ["scale"]}"#, "graph-transform"),
    (#""transforms": {}"#, #""transforms": {"norm": ["scale"]}"#, "graph-transform"),
    (
      #""activations": {}"#, #""activations": {"\u00e9": {"kind": "float"}, "e\u0301": {"kind": "float"}}"#,
      "graph-json"
    ),
    (#""transforms": {}"#, #""transforms": []"#, "graph-json"),
    (#""activations": {}"#, #""activations": {"norm": {"kind": "float"}}"#, "graph-activation"),
    (
      #""activations": {}"#, #""activations": {"table": {"kind": "static", "bits": 9}}"#,
      "graph-activation"
    ),
    (#""activations": {}"#, #""activations": {"table": {"kind": "static"}}"#, "graph-json"),
    (
      #""activations": {}"#, #""activations": {"table": {"kind": "static", "bits": 8, "zero": 128}}"#,
      "graph-activation"
    ),
    (
      #""activations": {}"#, #""activations": {"table": {"kind": "static", "bits": 8, "zero": 0.5}}"#,
      "graph-json"
    ),
    (#""activations": {}"#, #""activations": {"table": {"kind": "x"}}"#, "graph-json"),
    (#""activations": {}"#, #""activations": {"table": {"kind": "grouped", "bits": 8}}"#, "graph-json"),
    (
      #""activations": {}"#, #""activations": {"table": {"kind": "grouped", "bits": 8, "groupSize": 48}}"#,
      "graph-activation"
    ),
    (#""family""#, #""vocabularySize": 0, "family""#, "graph-json"),
    (#""family""#, #""contextLength": 9223372036854775807, "family""#, "graph-json"),
    (#""family""#, #""missing": "x", "family""#, "graph-json"),
  ])
  func hostileGraphs(_ change: (old: String, new: String, rule: String)) throws {
    try #require(Self.plain.contains(change.old))
    let text = Self.plain.replacingOccurrences(of: change.old, with: change.new)
    let json = try parsed(text)
    let error = try refusal {
      _ = try Graph(json: json, file: "a.otq") { _ in [1, 1, 1, 1] }
    }
    #expect(error.rule == change.rule && error.file == "a.otq")
  }

  @Test(arguments: [
    (4, 3, 1), (3, 1, 1), (4, 0, 1), (4, -2, 1), (0, 0, 0), (4, 4, 2), (1 << 62, 1 << 62, 4),
  ])
  func hostileHeads(_ heads: Int, _ groups: Int, _ size: Int) throws {
    let attention = Attention(
      headCount: heads, keyValueHeadCount: groups, headSize: size, scale: 1, isCausal: true,
      positions: .none)
    let tail = [Node("mixed", .attention(attention), inputs: ["first", "second", "third"])]
    #expect(try refusal { _ = try smallGraph(tail, site: "mixed") }.rule == "graph-channels")
  }

  @Test func longChainsOfAffineNodes() throws {
    func chain(_ count: Int) -> [Node] {
      (0..<count).map { Node("a\($0)", .affine, inputs: [$0 == 0 ? "first" : "a\($0 - 1)"]) }
    }
    _ = try smallGraph(chain(8), site: "a7")
    #expect(try refusal { _ = try smallGraph(chain(9), site: "a8") }.rule == "graph-affine")
  }

  @Test func groupsOfNormsSurvive() throws {
    func graph(_ groupSize: Int?) throws -> Graph {
      let norm = Norm(gamma: "h", beta: "i", epsilon: 1e-6, size: 4, groupSize: groupSize)
      return try smallGraph([Node("heads", .layerNorm(norm), inputs: ["first"])], site: "heads")
    }
    #expect(try reread(graph(2)) == graph(2))
    #expect(try graph(2).json.text().contains(#""size":4,"groupSize":2"#))
    #expect(try !graph(nil).json.text().contains("groupSize"))
    for size in [0, -2, 3, 8, 1 << 62] {
      #expect(try refusal { _ = try graph(size) }.rule == "graph-channels", "\(size)")
    }
  }

  @Test(arguments: Fixture.allCases) func rotationsSurvive(_ fixture: Fixture) throws {
    var graph = try fixture.graph()
    let source = graph
    for site in graph.sites {
      let scale = [Float](repeating: 2, count: site.size)
      let rotation = try #require(Rotation(largestFor: site.size))
      graph = try graph.migrating(site, by: SiteTransform(scale: scale, rotation: rotation))
    }
    graph = try graph.quantizing(Dictionary(uniqueKeysWithValues: graph.sites.map { ($0.producer, .dynamic(bits: 6)) }))
    #expect(graph.sites.count == source.sites.count)
    #expect(try reread(graph) == graph)
    #expect(graph.differences(from: source).isEmpty)
    #expect(graph.json.text().contains(#""operation":"rotation""#))
  }

  @Test(arguments: [(16, "graph-rotation"), (8, "graph-channels"), (24, "graph-channels"), (64, "graph-channels")])
  func hostileRotations(_ blockSize: Int, _ rule: String) throws {
    let wide = Linear(weight: "wide", bias: nil, inFeatures: 4, outFeatures: 32, role: .block)
    let tail = [
      Node("wide", .linear(wide), inputs: ["first"]),
      Node("turned", .rotation(Rotation(blockSize: blockSize)), inputs: ["wide"]),
    ]
    // A sum can make nothing of a rotated value, a linear can.
    let sum = [Node("sum", .add, inputs: ["turned", "wide"])]
    #expect(try refusal { _ = try smallGraph(tail + sum, site: "sum", size: 32) }.rule == rule)
    if blockSize == 16 { _ = try smallGraph(tail, site: "turned", size: 32) }
  }

  @Test(arguments: [(0, 0, 1), (3, 3, 1), (-1, 2, 2), (0, 2, 1 << 62), (0, 3, 1), (0, 2, 0), (.max, 2, 1)])
  func hostileSlices(_ part: Int, _ partCount: Int, _ headSize: Int) throws {
    let slice = ChannelSlice(part: part, partCount: partCount, blockSize: headSize)
    let tail = [Node("slice", .channelSlice(slice), inputs: ["first"])]
    #expect(
      try refusal { _ = try smallGraph(tail, site: "slice", size: 2) }.rule == "graph-channels")
  }
}
