import OTFoundation
import OTJSON

extension Graph {
  /// The node that what migration put on an edge reads, `name` itself where it is none.
  package func nodeBeforeEdge(_ name: String) -> String {
    var name = name
    while let node = self[name], node.operation.kind == .edge { name = node.inputs[0] }
    return name
  }

  /// The differences from `source`: the name of a node, or `graph`, and the difference in words.
  ///
  /// Migration makes no difference: transforms, nodes on edges and activations are left out.
  package func differences(from source: Graph) -> [(name: String, message: String)] {
    var differences: [(name: String, message: String)] = []
    func compare(_ name: String, _ own: JSONObject, _ other: JSONObject) {
      for key in own.keys + other.keys.filter({ own[$0] == nil }) where own[key] != other[key] {
        let words = [own[key], other[key]].map { $0?.text() ?? "none" }
        differences.append((name, "has \(key) \(words[0]), the source \(words[1])"))
      }
    }
    compare("graph", factsBesideNodes, source.factsBesideNodes)
    let splits = Dictionary(
      nodes.compactMap { node in split(node).map { (node.name, $0) } }, uniquingKeysWith: { first, _ in first })
    // Linears that were split, and the channels that they read.
    let parts = Set(
      splits.keys.flatMap { self[$0]?.inputs ?? [] }.flatMap { [$0] + (self[$0]?.inputs ?? []).map(nodeBeforeEdge) })
    for node in source.nodes where !node.isEdge {
      guard let own = splits[node.name] ?? self[node.name], !own.isEdge else {
        differences.append((node.name, "is a node of the source and none of the file"))
        continue
      }
      compare(node.name, facts(of: own), source.facts(of: node))
    }
    for node in nodes where !node.isEdge && source[node.name] == nil && !parts.contains(node.name) {
      differences.append((node.name, "is a node of the file and none of the source"))
    }
    return differences
  }

  private var factsBesideNodes: JSONObject {
    var facts = json.object ?? [:]
    for key in ["nodes", "transforms", "activations"] { facts[key] = nil }
    return facts
  }

  private func facts(of node: Node) -> JSONObject {
    Node(node.name, node.operation, inputs: node.inputs.map(nodeBeforeEdge)).json
  }
}

extension Node {
  fileprivate var isEdge: Bool { operation.kind == .edge }
}
