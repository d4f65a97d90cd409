import OTFoundation
import OTGraph
import OTModel
import OTTensor
import Testing
import _OTModelSupport
import _OTTestSupport

/// Channels that linears read apart.
@Suite struct SplittingTests {
  private static func choice(_ size: Int, using generator: inout SeededGenerator) -> ChannelChoice {
    let count = Int.random(in: 1..<min(size, 20), using: &generator)
    let listed = Array((0..<size).shuffled(using: &generator)[..<count]).sorted()
    return ChannelChoice(listed, isRest: Bool.random(using: &generator))
  }

  /// Every site of a fixture, first as it is, then transformed.
  @Test(arguments: Fixture.allCases, [false, true])
  func functionIsPreserved(_ fixture: Fixture, isTransformed: Bool) throws {
    var generator = SeededGenerator()
    let tokens = Array(try fixture.goldenSequences()[1].prefix(24))
    let parameters = try fixture.parameters()
    let source = try fixture.graph()
    let original = try Trace(source, parameters, tokens: tokens)
    var graph = source
    for site in source.sites {
      let transform =
        isTransformed ? TransformParts.both.transform(of: site, in: graph, using: &generator) : .identity
      let channels = Self.choice(site.size, using: &generator)
      graph = try graph.migrating(site, by: SiteTransform(transform, floatChannels: channels))
      let linear = try #require(graph.linear(for: site.consumers[0]))
      let origin = graph.origin(of: linear.inputs[0])
      #expect(origin.name == site.producer && origin.channels == channels.rest.channels(among: site.size))
      for name in site.consumers {
        let own = try #require(graph.linear(for: name)?.name)
        #expect(own == "\(name).rest" && graph.givesScores(own) == source.givesScores(name), "\(name)")
      }
    }
    let split = try Trace(graph, parameters, tokens: tokens)
    split.expectOutputs(of: original, tolerance: 1e-4, "seed \(generator.seed)")
    #expect(graph.differences(from: source).isEmpty, "seed \(generator.seed)")
    // What is split has the value that it had.
    let name = source.sites[0].consumers[0]
    #expect(relativeError(split.values[name] ?? [], original.values[name] ?? []) < 1e-4)
  }

  @Test func differencesAreSeen() throws {
    let source = try Fixture.llama.graph()
    let site = source.sites[1]
    let graph = try source.splitting(site, keeping: ChannelChoice([3, 5]))
    let other = try source.splitting(source.sites[0], keeping: ChannelChoice([3]))
    #expect(!source.differences(from: graph).isEmpty && !graph.differences(from: other).isEmpty)
  }

  @Test func refusals() throws {
    let graph = try Fixture.llama.graph()
    let site = graph.sites[0]
    func rule(_ channels: ChannelChoice, _ graph: Graph, _ site: Site) -> String? {
      #expect(throws: Refusal.self) { try graph.splitting(site, keeping: channels) }?.rule
    }
    for list in [[], [-1], [3, 3], [5, 2], [site.size], Array(0..<site.size)] {
      #expect(rule(ChannelChoice(list), graph, site) == "graph-split", "\(list)")
    }
    let rotated = try graph.migrating(site, by: SiteTransform(rotation: Rotation(blockSize: 16)))
    let behind = try #require(rotated.sites.first { $0.consumers == site.consumers })
    #expect(rule(ChannelChoice([1]), rotated, behind) == "graph-split")
    // A site behind another, whose linears it has changed already.
    let values = graph.sites[1]
    let pushed = try graph.migrating(values, by: ChannelTransform(scale: [Float](repeating: 2, count: values.size)))
    #expect(rule(ChannelChoice([1]), pushed, site) == "graph-split")
    let split = try graph.splitting(site, keeping: ChannelChoice([1]))
    #expect(rule(ChannelChoice([1]), split, site) == "graph-split")
  }
}
