import OTFoundation

/// The nodes that lie between values that are given and values that are wanted.
///
/// Nodes keep the names, parameters, transforms and quantization that they have in the graph.
package struct GraphPart: Sendable {
  /// The graph.
  package let graph: Graph
  /// Nodes whose values are given.
  package let given: Set<String>
  /// The outputs of the part: name → node.
  package let outputs: [String: String]
  /// Nodes that are executed or given, in execution order.
  package let nodes: [Node]
  /// True when the part is the graph itself.
  package let isWhole: Bool
  private let names: Set<String>

  /// All of `graph`.
  package init(_ graph: Graph) {
    self.graph = graph
    given = []
    outputs = graph.outputs
    nodes = graph.nodes
    isWhole = true
    names = Set(graph.nodes.map(\.name))
  }

  /// The part of `graph` that computes the values of `wanted` from those of `given`; what
  /// does not follow from `given` is computed from the tokens.
  ///
  /// - Throws: `Refusal` with rule `graph-part` where a name is no node with a value, or
  ///   nothing is wanted.
  package init(of graph: Graph, from given: Set<String>, until wanted: [String]) throws {
    for name in given.sorted() + wanted where graph.channelCount(of: name) ?? 0 == 0 {
      throw Refusal("graph-part", "'\(name)' is not a value of the graph")
    }
    guard !wanted.isEmpty else { throw Refusal("graph-part", "a part of a graph ends at a node") }
    var names = Set(wanted)
    for node in graph.nodes.reversed() where names.contains(node.name) && !given.contains(node.name) {
      names.formUnion(node.inputs)
    }
    self.graph = graph
    self.given = given.intersection(names)
    outputs = Dictionary(wanted.map { ($0, $0) }, uniquingKeysWith: { first, _ in first })
    nodes = graph.nodes.filter { names.contains($0.name) }
    isWhole = false
    self.names = names
  }

  /// True when the node is executed or given.
  package func contains(_ node: String) -> Bool { names.contains(node) }

  /// The nodes of the part that are executed and read the value of `node`, in order.
  package func consumers(of node: String) -> [String] {
    graph.consumers(of: node).filter { names.contains($0) && !given.contains($0) }
  }
}

extension Graph {
  /// Those of `names` that no other of them depends on, in execution order: a part of the
  /// graph that ends at them has all.
  package func ends(among names: Set<String>) -> [String] {
    var ends: [String] = []
    var needed: Set<String> = []
    for node in nodes.reversed() {
      if names.contains(node.name), !needed.contains(node.name) { ends.append(node.name) }
      if names.contains(node.name) || needed.contains(node.name) { needed.formUnion(node.inputs) }
    }
    return ends.reversed()
  }
}

extension Graph {
  /// The values up to a site, its own among them, that nodes behind it read: with them the rest can be run.
  package func frontier(at site: Site) -> [String] { frontiers(at: [site])[0] }

  /// The frontier at each of these sites, in execution order.
  ///
  /// - Complexity: O(nodes + values of all frontiers).
  package func frontiers(at sites: [Site]) -> [[String]] {
    var ends: [Int] = []
    ends.reserveCapacity(nodes.count)
    var (place, live) = (0, [Int]())
    return sites.map { site in
      guard let last = indices[site.producer] else { return [] }
      while place <= last {
        let name = nodes[place].name
        let end = consumers(of: name).lazy.compactMap { indices[$0] }.max() ?? place
        ends.append(end)
        if channelCounts[place] > 0, end > place { live.append(place) }
        place += 1
      }
      live.removeAll { ends[$0] <= last }
      return live.map { nodes[$0].name }
    }
  }
}
