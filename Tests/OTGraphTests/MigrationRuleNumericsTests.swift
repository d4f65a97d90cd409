import OTConversion
import OTFoundation
import OTGraph
import OTModel
import Testing
import _OTModelSupport
import _OTTestSupport

/// A small model that ends in a site whose producer has one kind.
struct RuleCase: Sendable, CustomTestStringConvertible {
  let testDescription: String
  /// Nodes behind `norm` (a LayerNorm over `width` channels of `x`).
  let nodes: [Node]
  /// The producer of the site that is migrated, and its channels.
  let producer: String
  let size: Int
  /// The end of each part: the nodes whose values carry a transform.
  let shiftGoesTo: Set<String>
  let scaleGoesTo: Set<String>

  static let width = 16

  static func linear(_ name: String, _ input: String, _ from: Int, _ to: Int, bias: Bool = false)
    -> Node
  {
    Node(
      name,
      .linear(
        Linear(
          weight: "\(name).weight", bias: bias ? "\(name).bias" : nil, inFeatures: from,
          outFeatures: to, role: .block)), inputs: [input])
  }

  func graph() throws -> Graph {
    let width = RuleCase.width
    let norm = Norm(gamma: "norm.weight", beta: "norm.bias", epsilon: 1e-5, size: width)
    return try Graph(
      family: "test",
      nodes: [
        Node("ids", .tokenIDs),
        Node(
          "x", .embedding(Embedding(table: "table", rowCount: 32, size: width)), inputs: ["ids"]),
        Node("norm", .layerNorm(norm), inputs: ["x"]),
      ] + nodes + [
        RuleCase.linear("last", producer, size, width, bias: true),
        RuleCase.linear("second", producer, size, width),
        Node("sum", .add, inputs: ["last", "x"]),
        Node("result", .add, inputs: ["sum", "second"]),
      ], outputs: ["hidden": "result"])
  }

  // MARK: The rules

  static func norm(_ name: String, _ operation: OTGraph.Operation, gains: String) -> RuleCase {
    RuleCase(
      testDescription: gains, nodes: [Node(name, operation, inputs: ["x"])], producer: name,
      size: width, shiftGoesTo: [name], scaleGoesTo: [name])
  }

  static func attention(
    _ heads: Int, _ groups: Int, positions: Attention.Positions, isCausal: Bool
  ) -> [Node] {
    let size = 8
    let operation = OTGraph.Operation.attention(
      Attention(
        headCount: heads, keyValueHeadCount: groups, headSize: size, isCausal: isCausal,
        positions: positions))
    return [
      linear("q", "norm", width, heads * size), linear("k", "norm", width, groups * size),
      linear("v", "norm", width, groups * size),
      Node("mix", operation, inputs: ["q", "k", "v"]),
    ]
  }

  static func function(_ kind: ActivationKind, passesScale: Bool) -> RuleCase {
    RuleCase(
      testDescription: kind.rawValue,
      nodes: [
        linear("first", "norm", width, 32, bias: true),
        Node("function", .activation(kind), inputs: ["first"]),
      ], producer: "function", size: 32, shiftGoesTo: ["function.affine"],
      scaleGoesTo: passesScale ? ["first", "function"] : ["function.affine"])
  }

  static let fused: [Node] =
    [linear("qkv", "norm", width, 3 * 24, bias: true)]
    + ["query", "key", "value"].enumerated().map { part, name in
      Node(name, .channelSlice(ChannelSlice(part: part, partCount: 3, blockSize: 8)), inputs: ["qkv"])
    } + [
      Node(
        "mix",
        .attention(
          Attention(
            headCount: 3, keyValueHeadCount: 3, headSize: 8, isCausal: true, positions: .alibi)),
        inputs: ["query", "key", "value"])
    ]

  static let all: [RuleCase] = [
    norm(
      "layer",
      .layerNorm(Norm(gamma: "layer.weight", beta: "layer.bias", epsilon: 1e-5, size: width)),
      gains: "LayerNorm"),
    norm(
      "layer", .layerNorm(Norm(gamma: nil, beta: nil, epsilon: 1e-5, size: width)),
      gains: "LayerNorm that gains both parameters"),
    norm(
      "rms", .rmsNorm(Norm(gamma: "rms.weight", beta: nil, epsilon: 1e-6, size: width)),
      gains: "RMSNorm that gains a bias"),
    RuleCase(
      testDescription: "norm that feeds a residual",
      nodes: [
        linear("first", "norm", width, width),
        Node(
          "shared", .layerNorm(Norm(gamma: "s", beta: "t", epsilon: 1e-5, size: width)),
          inputs: ["first"]),
        Node("other", .add, inputs: ["shared", "norm"]),
        Node(
          "affine", .rmsNorm(Norm(gamma: "u", beta: nil, epsilon: 1e-5, size: width)),
          inputs: ["other"]),
        Node("both", .add, inputs: ["affine", "shared"]),
        linear("third", "both", width, width),
      ], producer: "shared", size: width, shiftGoesTo: ["shared.affine"],
      scaleGoesTo: ["shared.affine"]),
    RuleCase(
      testDescription: "linear with a bias",
      nodes: [linear("first", "norm", width, 24, bias: true)], producer: "first", size: 24,
      shiftGoesTo: ["first"], scaleGoesTo: ["first"]),
    RuleCase(
      testDescription: "linear that gains a bias",
      nodes: [linear("first", "norm", width, 24)], producer: "first", size: 24,
      shiftGoesTo: ["first"], scaleGoesTo: ["first"]),
    RuleCase(
      testDescription: "attention",
      nodes: attention(2, 2, positions: .none, isCausal: false), producer: "mix", size: 16,
      shiftGoesTo: ["mix", "v"], scaleGoesTo: ["mix", "v"]),
    RuleCase(
      testDescription: "attention with grouped heads",
      nodes: attention(
        6, 2, positions: .rotary(Rotary(theta: 10000, dimensions: 8)), isCausal: true),
      producer: "mix", size: 48, shiftGoesTo: ["mix", "v"], scaleGoesTo: ["mix", "v"]),
    RuleCase(
      testDescription: "attention with a fused projection", nodes: fused, producer: "mix",
      size: 24, shiftGoesTo: ["mix", "value", "qkv"], scaleGoesTo: ["mix", "value", "qkv"]),
    function(.relu, passesScale: true),
    function(.gelu, passesScale: false),
    function(.geluTanh, passesScale: false),
    function(.silu, passesScale: false),
    RuleCase(
      testDescription: "gate times up",
      nodes: [
        linear("gate", "norm", width, 32), linear("up", "norm", width, 32),
        Node("function", .activation(.silu), inputs: ["gate"]),
        Node("product", .multiply, inputs: ["function", "up"]),
      ], producer: "product", size: 32, shiftGoesTo: ["product.affine"],
      scaleGoesTo: ["product", "up"]),
    RuleCase(
      testDescription: "residual",
      nodes: [
        linear("first", "norm", width, width), Node("added", .add, inputs: ["first", "x"]),
      ], producer: "added", size: width, shiftGoesTo: ["added.affine"],
      scaleGoesTo: ["added.affine"]),
  ]
}

/// Each rule alone, on random weights: where a transform goes, and that the
/// function stays the same.
@Suite struct MigrationRuleNumericsTests {
  @Test(arguments: RuleCase.all, TransformParts.allCases)
  func functionStaysTheSame(_ rule: RuleCase, _ parts: TransformParts) throws {
    var generator = SeededGenerator()
    let comment = "seed \(generator.seed)"
    let graph = try rule.graph()
    let shapes = graph.parameterUses.compactMap { use in
      use.tensor.map { ($0.name, use.shape.dimensions) }
    }
    let parameters = ParameterReader(
      try RandomTensors.views(Dictionary(uniqueKeysWithValues: shapes), seed: generator.seed))
    let tokens = (0..<20).map { _ in Int.random(in: 0..<32, using: &generator) }
    let original = try Trace(graph, parameters, tokens: tokens)

    let site = try #require(graph.site(producedBy: rule.producer))
    let transform = parts.transform(of: site, in: graph, using: &generator)
    let migrated = try graph.migrating(site, by: transform)
    // Where the shift cannot go up, the scale stays with it.
    let places = parts == .scale ? rule.scaleGoesTo : rule.shiftGoesTo
    #expect(Set(migrated.transforms.keys) == places)
    let end = migrated["last"].map { $0.inputs[0] } ?? ""

    let trace = try Trace(migrated, parameters, tokens: tokens)
    trace.expectOutputs(of: original, tolerance: 2e-5, comment)
    trace.expect(
      end, isTransformed: transform, try #require(original.values[rule.producer]),
      tolerance: 2e-5, comment)
    for (name, value) in original.values where !places.contains(name) {
      #expect(
        relativeError(trace.values[name] ?? [], value) < 2e-5, "\(comment): \(name) changed")
    }

    // Once more, on top.
    let again = try #require(migrated.site(producedBy: end))
    let second = parts.transform(of: again, in: migrated, using: &generator)
    let twice = try Trace(try migrated.migrating(again, by: second), parameters, tokens: tokens)
    twice.expectOutputs(of: original, tolerance: 2e-5, comment)
  }

  /// The same with a rotation on the edge, whatever becomes of the other parts.
  @Test(arguments: RuleCase.all, TransformParts.allCases)
  func rotationKeepsTheFunction(_ rule: RuleCase, _ parts: TransformParts) throws {
    var generator = SeededGenerator()
    let comment = "seed \(generator.seed)"
    let graph = try rule.graph()
    let shapes = graph.parameterUses.compactMap { use in use.tensor.map { ($0.name, use.shape.dimensions) } }
    let parameters = ParameterReader(
      try RandomTensors.views(Dictionary(uniqueKeysWithValues: shapes), seed: generator.seed))
    let tokens = (0..<20).map { _ in Int.random(in: 0..<32, using: &generator) }
    let original = try Trace(graph, parameters, tokens: tokens)
    let site = try #require(graph.site(producedBy: rule.producer))
    let channels = parts.transform(of: site, in: graph, using: &generator)
    let transform = SiteTransform(channels, rotation: Rotation(blockSize: 16))
    guard site.size % 16 == 0 else {
      #expect(try refusal { _ = try graph.migrating(site, by: transform) }.rule == "graph-rotation")
      return
    }
    let rotated = try graph.migrating(site, by: transform)
    let end = try #require(rotated["last"]).inputs[0]
    #expect(rotated.rotation(ofValue: end) == transform.rotation && end.hasSuffix(".rotation"))
    #expect(try rotated.transforms == graph.migrating(site, by: channels).transforms)
    #expect(rotated.site(producedBy: end)?.fedBy == site.fedBy)
    let trace = try Trace(rotated, parameters, tokens: tokens)
    trace.expectOutputs(of: original, tolerance: 2e-5, comment)
    // Rotated once more it is what shift and scale alone make of it.
    let values = try #require(trace.values[end])
    let size = 16
    let back = values.indices.map { i in
      let start = i / size * size
      return (0..<size).reduce(Float(0)) { sum, j in
        sum + values[start + j] * (((i - start) & j).nonzeroBitCount % 2 == 0 ? 0.25 : -0.25)
      }
    }
    let input = try #require(rotated[end]).inputs[0]
    let before = try #require(trace.values[input])
    #expect(relativeError(back, before) < 2e-6, "\(comment)")
    // Once is enough.
    let again = try #require(rotated.site(producedBy: end))
    #expect(try refusal { _ = try rotated.migrating(again, by: transform) }.rule == "graph-rotation")
    #expect(try refusal { _ = try rotated.migrating(again, by: channels) }.rule == "graph-rotation")
  }
}
