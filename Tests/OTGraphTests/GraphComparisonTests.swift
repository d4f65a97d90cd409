import OTGraph
import Testing
import _OTModelSupport
import _OTTestSupport

/// Differences between a packed file's graph and its source's.
@Suite struct GraphComparisonTests {
  @Test(arguments: Fixture.allCases) func migrationMakesNoDifference(fixture: Fixture) throws {
    let source = try fixture.graph()
    var graph = source
    for site in source.sites {
      graph = try graph.migrating(
        site,
        by: ChannelTransform(
          shift: [Float](repeating: 1, count: site.size), scale: [Float](repeating: 2, count: site.size)))
    }
    let producers = source.sites.flatMap { site in graph[site.consumers[0]]?.inputs ?? [] }
    graph = try graph.quantizing(Dictionary(uniqueKeysWithValues: producers.map { ($0, .static(bits: 8)) }))
    #expect(graph != source)
    #expect(graph.differences(from: source).isEmpty && source.differences(from: source).isEmpty)
  }

  @Test func whatDiffersIsNamed() throws {
    let source = try Fixture.opt.graph()
    func differences(
      _ nodes: [Node]? = nil, outputs: [String: String]? = nil, contextLength: Int? = nil
    ) throws -> [String] {
      let graph = try Graph(
        family: source.family, nodes: nodes ?? source.nodes, outputs: outputs ?? source.outputs,
        vocabularySize: source.vocabularySize, contextLength: contextLength ?? source.contextLength)
      return graph.differences(from: source).map { "\($0.name) \($0.message)" }
    }
    #expect(try differences().isEmpty)
    #expect(try differences(contextLength: 7) == ["graph has contextLength 7, the source \(source.contextLength ?? 0)"])
    let name = "model.decoder.layers.2.fc1"
    let others = try source.nodes.map { node in
      guard node.name == name, case .linear(let linear) = node.operation else { return node }
      let other = Linear(
        weight: "other", bias: linear.bias, inFeatures: linear.inFeatures, outFeatures: linear.outFeatures,
        role: linear.role)
      return Node(node.name, .linear(other), inputs: [try #require(node.inputs.first)])
    }
    #expect(try differences(others) == ["\(name) has weight \"other\", the source \"\(name).weight\""])
    let more = Node("more", .activation(.relu), inputs: [name])
    #expect(try differences(source.nodes + [more]) == ["more is a node of the file and none of the source"])
    let last = source.nodes[source.nodes.count - 1]
    let outputs = ["hidden": last.inputs[0]]
    #expect(
      try differences(Array(source.nodes.dropLast()), outputs: outputs).contains(
        "\(last.name) is a node of the source and none of the file"))
  }
}
