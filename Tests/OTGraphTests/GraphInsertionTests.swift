import OTFoundation
import OTGraph
import Testing
import _OTModelSupport
import _OTTestSupport

@Suite("Graphs that migration changes in place")
struct GraphInsertionTests {
  /// What migration keeps up to date is what a graph made anew finds out.
  private func expectFresh(_ graph: Graph, _ context: Comment) throws {
    let fresh = try Graph(
      family: graph.family, nodes: graph.nodes, outputs: graph.outputs, transforms: graph.transforms,
      activations: graph.activations, vocabularySize: graph.vocabularySize, contextLength: graph.contextLength,
      missing: graph.missing)
    #expect(fresh == graph, context)
    for node in graph.nodes {
      #expect(graph[node.name] == node, context)
      #expect(graph.consumers(of: node.name) == fresh.consumers(of: node.name), context)
      #expect(graph.channelCount(of: node.name) == fresh.channelCount(of: node.name), context)
      #expect(graph.rows(of: node.name) == fresh.rows(of: node.name), context)
    }
    #expect(graph.sites == fresh.sites, context)
  }

  @Test(arguments: Fixture.allCases) func whatIsKeptUpToDateIsWhatIsFoundAnew(_ fixture: Fixture) throws {
    var generator = SeededGenerator()
    var graph = try fixture.graph()
    let context: Comment = "seed \(generator.seed)"
    for site in graph.sites {
      guard let linear = graph.linear(for: site.consumers[0]),
        let current = graph.site(producedBy: linear.inputs[0])
      else { continue }
      let shared = graph.sharedChannels(of: current)
      let values = (0..<current.size).map { _ in Float.random(in: 0.5...2, using: &generator) }
      let scale = shared.map { $0.map { values[$0] } } ?? values
      let rotation = Bool.random(using: &generator) ? Rotation(largestFor: current.size) : nil
      var transform = SiteTransform(scale: scale, rotation: rotation)
      transform.staysOnEdge = Bool.random(using: &generator)
      graph = try graph.migrating(current, by: transform)
    }
    #expect(graph.nodes.count > (try fixture.graph().nodes.count), context)
    try expectFresh(graph, context)
    try expectFresh(graph.quantizing(Dictionary(graph.sites.map { ($0.producer, .dynamic(bits: 8)) }) { $1 }), context)
  }

  /// Rotations put in together are those put in one after the other.
  @Test(arguments: Fixture.allCases) func rotationsTogether(_ fixture: Fixture) throws {
    let graph = try fixture.graph()
    let rotations = graph.sites.compactMap { site in
      Rotation(largestFor: site.size).map { (site: site, rotation: $0) }
    }
    #expect(!rotations.isEmpty)
    var single = graph
    for (site, rotation) in rotations {
      single = try single.migrating(site, by: SiteTransform(rotation: rotation))
    }
    let together = try graph.rotating(rotations)
    #expect(together == single)
    try expectFresh(together, "together")
    #expect(throws: Refusal.self) { try graph.rotating([rotations[0], rotations[0]]) }
    #expect(throws: Refusal.self) { try together.rotating([rotations[0]]) }
  }
}
