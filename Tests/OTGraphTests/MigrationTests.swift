import OTFoundation
import OTGraph
import Testing
import _OTModelSupport
import _OTTestSupport

private let shift: [Float] = [1, -2, 3, 0.5]
private let scale: [Float] = [2, 4, 0.5, 1]
private let both = ChannelTransform(shift: shift, scale: scale)

@Suite("Migration: structure of every rule")
struct MigrationTests {
  private func site(_ graph: Graph, _ producer: String) throws -> Site {
    try #require(graph.site(producedBy: producer))
  }

  private func names(_ graph: Graph) -> [String] { graph.nodes.map(\.name) }

  @Test func normWhoseOnlyConsumersAreTheSitesLinears() throws {
    let graph = try smallGraph([], site: "first")
    let norm = try site(graph, "norm")
    #expect(norm.consumers == ["first", "second", "third"] && norm.isNormFed)
    #expect(graph.pushability(of: norm) == SitePushability(shift: true, scale: true))
    let migrated = try graph.migrating(norm, by: both)
    #expect(names(migrated) == names(graph))
    #expect(migrated.transforms == ["norm": both])
    let uses = migrated.parameterUses(of: "norm")
    #expect(uses.map(\.outputName) == ["norm.weight", "norm.bias"])
    #expect(uses.map(\.tensor) == ["norm.weight", nil])
    for linear in norm.consumers {
      let uses = migrated.parameterUses(of: linear)
      #expect(uses.map(\.outputName) == ["\(linear).weight", "\(linear).bias"])
      #expect(uses.allSatisfy { $0.input == both && $0.output.isIdentity })
      #expect(uses[1].tensor == nil && uses[1].weightTensor == "\(linear).weight")
    }
  }

  @Test func scaleAloneGainsNoBias() throws {
    let graph = try smallGraph([], site: "first")
    let migrated = try graph.migrating(
      try site(graph, "norm"), by: ChannelTransform(scale: scale))
    #expect(migrated.parameterUses.allSatisfy { $0.tensor != nil })
  }

  @Test func normThatAlsoFeedsAResidual() throws {
    let graph = try smallGraph(
      [Node("sum", .add, inputs: ["first", "norm"])], site: "sum")
    let norm = try site(graph, "norm")
    #expect(graph.pushability(of: norm) == SitePushability(shift: false, scale: false))
    let migrated = try graph.migrating(
      norm, by: both)
    #expect(migrated.transforms == ["norm.affine": both])
    #expect(migrated["norm.affine"]?.inputs == ["norm"])
    #expect(norm.consumers.allSatisfy { migrated[$0]?.inputs == ["norm.affine"] })
    #expect(migrated["sum"]?.inputs == ["first", "norm"])
    let index = try #require(names(migrated).firstIndex(of: "norm.affine"))
    #expect(names(migrated)[index + 1] == "first")
    #expect(migrated.site(producedBy: "norm") == nil)
    #expect(try site(migrated, "norm.affine").isNormFed)
    let uses = migrated.parameterUses(of: "norm.affine")
    #expect(uses.map(\.outputName) == ["norm.affine.shift", "norm.affine.scale"])
    #expect(migrated.parameterUses(of: "norm").allSatisfy { $0.isUnchanged })
  }

  @Test func linearThatOnlyTheSiteConsumes() throws {
    let graph = try smallGraph([], site: "first")
    let first = try site(graph, "first")
    let migrated = try graph.migrating(first, by: both)
    #expect(migrated.transforms == ["first": both])
    let uses = migrated.parameterUses(of: "first")
    #expect(uses.map(\.role) == [.weight, .bias])
    #expect(uses.allSatisfy { $0.output == both && $0.input.isIdentity })
  }

  @Test func linearThatOthersConsume() throws {
    let graph = try smallGraph(
      [], site: "first", extra: [Node("other", .add, inputs: ["first", "second"])])
    let migrated = try graph.migrating(try site(graph, "first"), by: both)
    #expect(migrated.transforms == ["first.affine": both])
    #expect(migrated["other"]?.inputs == ["first", "second"])
  }

  @Test func activationsThatPassTheScale() throws {
    for kind in ActivationKind.allCases {
      let graph = try smallGraph(
        [Node("active", .activation(kind), inputs: ["first"])], site: "active")
      let active = try site(graph, "active")
      let passes = kind == .relu
      #expect(graph.pushability(of: active) == SitePushability(shift: false, scale: passes))
      let scaled = ChannelTransform(scale: scale)
      let migrated = try graph.migrating(active, by: scaled)
      #expect(
        migrated.transforms
          == (passes ? ["active": scaled, "first": scaled] : ["active.affine": scaled]))
      #expect(try graph.migrating(active, by: both).transforms == ["active.affine": both])
    }
  }

  @Test func gateTimesUpPassesTheScaleToUp() throws {
    let tail = [
      Node("gate", .activation(.silu), inputs: ["first"]),
      Node("gated", .multiply, inputs: ["gate", "second"]),
    ]
    let graph = try smallGraph(tail, site: "gated")
    let gated = try site(graph, "gated")
    let scaled = ChannelTransform(scale: scale)
    #expect(graph.pushability(of: gated) == SitePushability(shift: false, scale: true))
    #expect(
      try graph.migrating(gated, by: scaled).transforms == ["gated": scaled, "second": scaled])
    #expect(try graph.migrating(gated, by: both).transforms == ["gated.affine": both])
  }

  @Test func gateTimesUpWhenUpIsReadElsewhere() throws {
    let graph = try smallGraph(
      [Node("gated", .multiply, inputs: ["first", "second"])], site: "gated",
      extra: [Node("other", .add, inputs: ["second", "third"])])
    let scaled = ChannelTransform(scale: scale)
    let migrated = try graph.migrating(try site(graph, "gated"), by: scaled)
    #expect(migrated.transforms == ["gated.affine": scaled])
  }

  @Test func normOfGroupsPassesNothing() throws {
    let norm = Norm(gamma: "h.weight", beta: nil, epsilon: 1e-5, size: 4, groupSize: 2)
    let graph = try smallGraph([Node("heads", .rmsNorm(norm), inputs: ["first"])], site: "heads")
    let heads = try site(graph, "heads")
    #expect(heads.fedBy == .norm)
    #expect(graph.pushability(of: heads) == SitePushability(shift: false, scale: false))
    let migrated = try graph.migrating(heads, by: both)
    #expect(migrated.transforms == ["heads.affine": both])
    #expect(migrated.parameterUses(of: "heads").map(\.shape.dimensions) == [[2]])
    #expect(migrated.parameterUses(of: "heads").allSatisfy { $0.isUnchanged })
    // A file that has a transform there all the same.
    let error = try refusal {
      _ = try Graph(family: "test", nodes: graph.nodes, outputs: graph.outputs, transforms: ["heads": both])
    }
    #expect(error.rule == "graph-transform")
  }

  @Test func residualAdditionPassesNothing() throws {
    let graph = try smallGraph([Node("sum", .add, inputs: ["first", "second"])], site: "sum")
    let sum = try site(graph, "sum")
    #expect(graph.pushability(of: sum) == SitePushability(shift: false, scale: false))
    #expect(try graph.migrating(sum, by: both).transforms == ["sum.affine": both])
  }

  @Test func attentionPassesToTheValueProjection() throws {
    let attention = Attention(
      headCount: 2, keyValueHeadCount: 2, headSize: 2, isCausal: true, positions: .alibi)
    let graph = try smallGraph(
      [Node("mixed", .attention(attention), inputs: ["first", "second", "third"])], site: "mixed")
    let mixed = try site(graph, "mixed")
    #expect(graph.sharedChannels(of: mixed) == nil)
    #expect(try graph.migrating(mixed, by: both).transforms == ["mixed": both, "third": both])
  }

  @Test func groupedHeadsNeedEqualEntries() throws {
    let graph = try Fixture.llama.graph()
    let mixed = try site(graph, "model.layers.0.self_attn")
    let shared = try #require(graph.sharedChannels(of: mixed))
    // Query heads 0, 1 read value head 0; 2, 3 read value head 1; 32 channels each.
    #expect(shared == [0, 0, 2, 2].flatMap { head in (0..<32).map { head * 32 + $0 } })
    let free = (0..<128).map { Float($0) + 1 }
    let unequal = ChannelTransform(scale: free)
    #expect(
      try refusal { _ = try graph.migrating(mixed, by: unequal) }.rule == "graph-shared-channels")
    let pooled = ChannelTransform(shift: shared.map { free[$0] }, scale: shared.map { free[$0] })
    let migrated = try graph.migrating(mixed, by: pooled)
    let expected = (0..<32).map { Float($0) + 1 } + (64..<96).map { Float($0) + 1 }
    let values = "model.layers.0.self_attn.v_proj"
    #expect(
      migrated.transforms
        == [mixed.producer: pooled, values: ChannelTransform(shift: expected, scale: expected)])
  }

  @Test func fusedProjectionChangesOnlyTheValueParts() throws {
    let graph = try Fixture.bloom.graph()
    let mixed = try site(graph, "transformer.h.1.self_attention")
    #expect(graph.pushability(of: mixed) == SitePushability(shift: true, scale: true))
    let vector = (0..<128).map { Float($0) + 1 }
    let transform = ChannelTransform(shift: vector, scale: vector)
    let migrated = try graph.migrating(mixed, by: transform)
    let block = "transformer.h.1.self_attention"
    #expect(Set(migrated.transforms.keys) == [block, block + ".value", block + ".query_key_value"])
    let fused = try #require(migrated.transforms[block + ".query_key_value"])
    // [head, part, channel] → the value's entry, or the identity.
    for head in 0..<4 {
      for part in 0..<3 {
        for channel in 0..<32 {
          let index = (head * 3 + part) * 32 + channel
          let entry = vector[head * 32 + channel]
          #expect(fused.shift?[index] == (part == 2 ? entry : 0))
          #expect(fused.scale?[index] == (part == 2 ? entry : 1))
        }
      }
    }
  }

  @Test func unknownHeadsLeaveTheTransformOnTheEdge() throws {
    for fixture in [Fixture.bloom, .llama, .opt, .bert] {
      let graph = try Families.graph(configuration: nil, tensors: try fixture.catalog())
      let mixed = try #require(
        graph.sites.first { site in
          if case .attention? = graph[site.producer]?.operation { true } else { false }
        })
      let scaled = ChannelTransform(scale: [Float](repeating: 2, count: mixed.size))
      let migrated = try graph.migrating(mixed, by: scaled)
      #expect(migrated.transforms == ["\(mixed.producer).affine": scaled])
    }
  }

  @Test func unknownHeadsOfASmallGraph() throws {
    let unknown = Attention(
      headCount: 0, keyValueHeadCount: 0, headSize: 0, isCausal: true, positions: .none)
    let tail = [Node("mixed", .attention(unknown), inputs: ["first", "second", "third"])]
    #expect(throws: Refusal.self) { try smallGraph(tail, site: "mixed") }
    let graph = try smallGraph(tail, site: "mixed", missing: ["heads"])
    #expect(graph.pushability(of: try site(graph, "mixed")) == SitePushability(shift: false, scale: false))
  }

  @Test func migratingTwiceComposes() throws {
    let graph = try smallGraph([], site: "first")
    let second = ChannelTransform(shift: [8, 8, 8, 8], scale: [4, 4, 4, 4])
    let migrated = try graph.migrating(try site(graph, "norm"), by: both)
      .migrating(try site(graph, "norm"), by: second)
    // (x − 1)/2 − 8 over 4 is (x − 17)/8, and so on.
    let expected = ChannelTransform(shift: [17, 30, 7, 8.5], scale: [8, 16, 2, 4])
    #expect(migrated.transforms == ["norm": expected])
  }

  @Test func migratingAnAffineSiteTwiceKeepsOneNode() throws {
    let graph = try smallGraph([Node("sum", .add, inputs: ["first", "second"])], site: "sum")
    let once = try graph.migrating(try site(graph, "sum"), by: both)
    let twice = try once.migrating(
      try site(once, "sum.affine"), by: ChannelTransform(scale: [2, 2, 2, 2]))
    #expect(names(twice) == names(once))
    #expect(
      twice.transforms == ["sum.affine": ChannelTransform(shift: shift, scale: [4, 8, 1, 2])])
  }

  @Test func affineBehindATransformedValue() throws {
    let graph = try smallGraph(
      [Node("active", .activation(.relu), inputs: ["first"])], site: "active")
    let scaled = try graph.migrating(
      try site(graph, "active"), by: ChannelTransform(scale: scale))
    let moved = try scaled.migrating(
      try site(scaled, "active"), by: ChannelTransform(shift: [1, 1, 1, 1]))
    #expect(moved.transforms["active.affine"] == ChannelTransform(shift: [1, 1, 1, 1]))
    // The linear undoes both: x = 2·(y + 1) in the first channel, so z = 2 and s = 2.
    let total = ChannelTransform(shift: [2, 4, 0.5, 1], scale: scale)
    #expect(moved.transform(ofValue: "active.affine") == total)
    #expect(moved.parameterUses(of: "last").allSatisfy { $0.input == total })
  }

  @Test func quantizationMovesToTheAffineNode() throws {
    let graph = try smallGraph([Node("sum", .add, inputs: ["first", "second"])], site: "sum")
      .quantizing(["sum": .static(bits: 6), "norm": .dynamic(bits: 8)])
    let migrated = try graph.migrating(try site(graph, "sum"), by: both)
    #expect(
      migrated.activations == ["sum.affine": .static(bits: 6), "norm": .dynamic(bits: 8)])
  }

  @Test func tiedWeightsCannotChange() throws {
    let tied = Linear(
      weight: "first.weight", bias: nil, inFeatures: 4, outFeatures: 4, role: .head)
    let graph = try smallGraph(
      [], site: "first", extra: [Node("head", .linear(tied), inputs: ["embedding"])])
    #expect(
      try refusal { _ = try graph.migrating(try site(graph, "norm"), by: both) }.rule
        == "graph-tied")
    // As a producer, the tied linear keeps its parameters.
    let migrated = try graph.migrating(try site(graph, "first"), by: both)
    #expect(migrated.transforms == ["first.affine": both])
  }

  @Test(arguments: [
    ChannelTransform(shift: [1, 2, 3]), ChannelTransform(scale: [1, 2, 3, 4, 5]),
    ChannelTransform(shift: [1, .nan, 3, 4]), ChannelTransform(shift: [1, .infinity, 3, 4]),
    ChannelTransform(scale: [1, 0, 3, 4]), ChannelTransform(scale: [1, -1, 3, 4]),
    ChannelTransform(scale: [1, .infinity, 3, 4]), ChannelTransform(scale: [1, .nan, 3, 4]),
  ])
  func unusableVectors(_ transform: ChannelTransform) throws {
    let graph = try smallGraph([], site: "first")
    let error = try refusal { _ = try graph.migrating(try site(graph, "norm"), by: transform) }
    #expect(error.rule == "graph-transform")
  }

  @Test func compositionThatOverflowsIsRefused() throws {
    let graph = try smallGraph([], site: "first")
    let large = ChannelTransform(scale: [1e30, 1, 1, 1])
    let once = try graph.migrating(try site(graph, "norm"), by: large)
    #expect(
      try refusal { _ = try once.migrating(try site(graph, "norm"), by: large) }.rule
        == "graph-transform")
  }

  /// In every family: what a node without parameters gives follows from what it reads.
  @Test(arguments: Fixture.allCases)
  func transformsThatChangeTheFunctionAreRefused(_ fixture: Fixture) throws {
    let graph = try fixture.graph()
    var refusedCount = 0
    for site in graph.sites {
      let scaled = ChannelTransform(scale: [Float](repeating: 2, count: site.size))
      let migrated = try graph.migrating(site, by: scaled)
      for name in migrated.transforms.keys {
        switch graph[name]?.operation {
        case .attention?, .channelSlice?, .activation?, .multiply?: break
        default: continue
        }
        refusedCount += 1
        for other in [nil, ChannelTransform(scale: scaled.scale?.map { $0 * 2 }), both] {
          var transforms = migrated.transforms
          transforms[name] = other
          let error = try refusal {
            _ = try Graph(
              family: graph.family, nodes: graph.nodes, outputs: graph.outputs, transforms: transforms,
              vocabularySize: graph.vocabularySize)
          }
          #expect(error.rule == "graph-transform", "\(name)")
        }
      }
    }
    #expect(refusedCount > 0)
  }

  @Test func queriesAndKeysCannotBeTransformed() throws {
    let graph = try Fixture.llama.graph()
    for node in graph.nodes {
      guard case .attention = node.operation else { continue }
      for input in node.inputs.prefix(2) {
        let size = try #require(graph.channelCount(of: input))
        let error = try refusal {
          _ = try Graph(
            family: graph.family, nodes: graph.nodes, outputs: graph.outputs,
            transforms: [input: ChannelTransform(scale: [Float](repeating: 2, count: size))],
            vocabularySize: graph.vocabularySize)
        }
        #expect(error.rule == "graph-transform", "\(input)")
      }
    }
  }

  @Test func aSiteOfAnotherGraphIsRefused() throws {
    let graph = try smallGraph([], site: "first")
    let other = try smallGraph([Node("sum", .add, inputs: ["first", "second"])], site: "sum")
    #expect(
      try refusal { _ = try graph.migrating(try site(other, "sum"), by: both) }.rule
        == "graph-site")
  }

  /// The transforms that each kind of site of each family allows, from the table of rules.
  @Test(arguments: Fixture.allCases)
  func pushabilityOfEverySite(_ fixture: Fixture) throws {
    let graph = try fixture.graph()
    #expect(graph.sites.count == fixture.siteCount)
    for site in graph.sites {
      let pushable = graph.pushability(of: site)
      switch graph[site.producer]?.operation {
      case .layerNorm?, .rmsNorm?:
        let alone = fixture != .bert
        #expect(pushable == SitePushability(shift: alone, scale: alone))
      case .attention?: #expect(pushable == SitePushability(shift: true, scale: true))
      case .activation(.relu)?, .multiply?: #expect(pushable == SitePushability(shift: false, scale: true))
      case .activation?: #expect(pushable == SitePushability(shift: false, scale: false))
      default: Issue.record("unexpected producer \(site.producer)")
      }
      let transform = ChannelTransform(
        shift: [Float](repeating: 1, count: site.size),
        scale: [Float](repeating: 2, count: site.size))
      let migrated = try graph.migrating(site, by: transform)
      for use in site.consumers.flatMap(migrated.parameterUses(of:)) {
        #expect(use.input == transform)
      }
    }
  }
}
