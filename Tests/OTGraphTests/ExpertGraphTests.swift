import Foundation
import OTFoundation
import OTGraph
import OTJSON
import Testing

/// Graphs with routers and experts, made of their JSON.
@Suite struct ExpertGraphTests {
  private static func linear(_ name: String, _ inputs: String, out: Int = 4, role: String = "block", expert: Int? = nil)
    -> String
  {
    let rest = expert.map { #", "expert": \#($0)"# } ?? ""
    let operation = expert == nil ? "linear" : "expert_linear"
    return #"{"name": "\#(name)", "operation": "\#(operation)", "inputs": [\#(inputs)], "#
      + #""weight": "\#(name).w", "inFeatures": 4, "outFeatures": \#(out), "role": "\#(role)"\#(rest)}"#
  }

  private static let plain =
    #"{"family": "test", "outputs": {"hidden": "out"}, "transforms": {}, "activations": {}, "nodes": ["#
    + #"{"name": "ids", "operation": "token_ids"}, {"name": "table", "operation": "embedding", "inputs": ["ids"], "#
    + #""table": "t", "rowCount": 8, "size": 4, "rowOffset": 0}, {"name": "norm", "operation": "rms_norm", "#
    + #""inputs": ["table"], "gamma": "g", "epsilon": 1e-5, "size": 4}, "#
    + [
      linear("scores", #""norm""#, out: 2, role: "router"),
      #"{"name": "router", "operation": "routing", "inputs": ["scores"], "expertCount": 2, "chosenCount": 1, "#
        + #""function": "softmax", "isNormalized": true}"#,
      linear("e0", #""norm", "router""#, expert: 0), linear("e1", #""norm", "router""#, expert: 1),
      linear("d0", #""e0""#), linear("d1", #""e1""#),
      #"{"name": "sum", "operation": "mixture", "inputs": ["router", "d0", "d1"], "expertCount": 2}"#,
      #"{"name": "out", "operation": "add", "inputs": ["table", "sum"]}]}"#,
    ].joined(separator: ", ")

  private func graph(_ text: String) throws -> Graph { try Graph(json: .parse(text)) { _ in [] } }

  /// At each site, by the definition: values of nodes up to it that a node behind it reads.
  @Test func frontiersAreWhatIsReadLater() throws {
    let graph = try graph(Self.plain)
    let names = graph.nodes.map(\.name)
    let frontiers = graph.frontiers(at: graph.sites)
    #expect(frontiers.count == 3 && frontiers[0] == ["table", "norm"])
    for (site, frontier) in zip(graph.sites, frontiers) {
      let count = try #require(names.firstIndex(of: site.producer)) + 1
      let later = Set(graph.nodes[count...].flatMap(\.inputs))
      #expect(frontier == names[..<count].filter { later.contains($0) && graph.channelCount(of: $0) != 0 })
      #expect(graph.frontier(at: site) == frontier)
    }
    #expect(graph.sites(producedBy: ["e1", "norm", "table"]).map(\.producer) == ["norm", "e1"])
  }

  @Test func rowsFollowFromRouters() throws {
    let graph = try graph(Self.plain)
    #expect(try self.graph(graph.json.text()) == graph)
    #expect(graph.rows(of: "router") == .routing("router") && graph.rows(of: "sum") == .tokens)
    #expect(graph.rows(of: "e1") == .expert(1, of: "router") && graph.rows(of: "d0") == .expert(0, of: "router"))
    #expect(graph.sites.map(\.producer) == ["norm", "e0", "e1"])
    #expect(graph.site(producedBy: "norm")?.consumers == ["e0", "e1"])
  }

  /// What readers without groups would misread has a name that they refuse.
  @Test func groupsSurvive() throws {
    let members =
      #""group_routing", "inputs": ["scores"], "choiceBias": "b", "groupCount": 2, "chosenGroupCount": 1, "#
      + #""rankedCount": 1, "factor": 2.5"#
    let text = Self.plain.replacingOccurrences(of: #""routing", "inputs": ["scores"]"#, with: members)
    let graph = try graph(text)
    #expect(try self.graph(graph.json.text()) == graph)
    guard case .routing(let routing)? = graph["router"]?.operation else {
      Issue.record("no router")
      return
    }
    #expect(routing.groups == Routing.Groups(count: 2, chosenCount: 1, rankedCount: 1) && routing.factor == 2.5)
    #expect(graph.parameterUses(of: "router").map(\.role) == [.choiceBias])
    #expect(graph.json.text().contains("group_routing") && !graph.json.text().contains(#""routing""#))
    for (part, other) in [
      (#""groupCount": 2"#, #""groupCount": 3"#), (#""groupCount": 2"#, #""groupCount": 0"#),
      (#""chosenGroupCount": 1"#, #""chosenGroupCount": 3"#), (#""rankedCount": 1"#, #""rankedCount": 2"#),
      (#""chosenCount": 1"#, #""chosenCount": 2"#), (#""factor": 2.5"#, #""factor": 0"#),
      (#""factor": 2.5"#, #""factor": -1"#), (#", "rankedCount": 1"#, ""), (#""b""#, "7"),
    ] {
      let odd = text.replacingOccurrences(of: part, with: other)
      #expect(odd != text)
      #expect(throws: Refusal.self, "\(other)") { try self.graph(odd) }
    }
  }

  /// What experts and their router read is one value: a transform of it reaches all of their weights.
  @Test func transformsReachRouterAndExperts() throws {
    let graph = try graph(Self.plain)
    let site = try #require(graph.site(producedBy: "norm"))
    #expect(graph.pushability(of: site) == SitePushability(shift: true, scale: true))
    let transform = ChannelTransform(shift: [1, 2, 3, 4], scale: [2, 1, 4, 1])
    let moved = try graph.migrating(site, by: transform)
    #expect(moved.nodes == graph.nodes && moved.transforms == ["norm": transform])
    for name in ["scores", "e0", "e1"] {
      let uses = moved.parameterUses(of: name)
      #expect(uses.map(\.role) == [.weight, .bias] && uses.allSatisfy { $0.input == transform })
    }
    // A rotation stays on the edge, where the router does not read it.
    let wide = try self.graph(
      Self.plain.replacingOccurrences(of: #""size": 4"#, with: #""size": 16"#)
        .replacingOccurrences(of: "Features\": 4", with: "Features\": 16"))
    let rotated = try wide.migrating(
      #require(wide.site(producedBy: "norm")), by: SiteTransform(rotation: Rotation(blockSize: 16)))
    #expect(rotated["e0"]?.inputs == ["norm.rotation", "router"] && rotated["scores"]?.inputs == ["norm"])
    #expect(rotated.rows(of: "e0") == .expert(0, of: "router"))
  }

  /// Each row replaces one part of the text above and names the rule that breaks.
  @Test(arguments: [
    (#""chosenCount": 1"#, #""chosenCount": 3"#, "graph-channels"),
    (#""chosenCount": 1"#, #""chosenCount": 0"#, "graph-channels"),
    (#""expertCount": 2, "chosenCount""#, #""expertCount": 3, "chosenCount""#, "graph-channels"),
    (#""function": "softmax""#, #""function": "sum""#, "graph-json"),
    (#""isNormalized": true"#, #""isNormalized": 1"#, "graph-json"),
    (#""expert": 1"#, #""expert": 2"#, "graph-channels"), (#""expert": 1"#, #""expert": -1"#, "graph-channels"),
    (#""expert": 1"#, #""expert": 0"#, "graph-rows"), (#", "expert": 1"#, "", "graph-input"),
    (#"["norm", "router"]"#, #"["norm", "scores"]"#, "graph-rows"),
    (#"["norm", "router"]"#, #"["router", "norm"]"#, "graph-channels"),
    (#"["norm", "router"]"#, #"["norm"]"#, "graph-input"),
    (#"["router", "d0", "d1"]"#, #"["router", "d1", "d0"]"#, "graph-rows"),
    (#"["router", "d0", "d1"]"#, #"["router", "d0", "norm"]"#, "graph-rows"),
    (#"["router", "d0", "d1"]"#, #"["scores", "d0", "d1"]"#, "graph-rows"),
    (#"["router", "d0", "d1"]"#, #"["router", "d0"]"#, "graph-input"),
    (#""expertCount": 2}"#, #""expertCount": -1}"#, "graph-input"),
    (#""expertCount": 2}"#, #""expertCount": 9223372036854775807}"#, "graph-input"),
    (#"["table", "sum"]"#, #"["table", "d0"]"#, "graph-rows"),
    (#"{"hidden": "out"}"#, #"{"hidden": "d0"}"#, "graph-rows"),
    (#"{"hidden": "out"}"#, #"{"other": "d0"}"#, "graph-rows"),
    (#"{"hidden": "out"}"#, #"{"hidden": "router"}"#, "graph-rows"),
    (#""transforms": {}"#, #""transforms": {"d0": ["scale"]}"#, "graph-transform"),
    (#""role": "router""#, #""role": "guide""#, "graph-json"),
  ])
  func hostileGraphsAreRefused(_ part: String, _ other: String, _ rule: String) throws {
    let text = Self.plain.replacingOccurrences(of: part, with: other)
    #expect(text != Self.plain)
    let refusal = try #require(
      #expect(throws: Refusal.self) { try Graph(json: .parse(text)) { _ in [Float](repeating: 2, count: 4) } })
    #expect(refusal.rule == rule, "\(refusal)")
  }
}
