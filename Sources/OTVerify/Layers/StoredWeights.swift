import OTContainer
import OTGraph
import OTTensor

/// The storage of the weights of a packed model's linears, by node.
package struct StoredWeights: Sendable {
  private let tensors: [String: StoredTensor]

  /// The weights of `graph` in `container`.
  package init(graph: Graph, container: Container) {
    var tensors: [String: StoredTensor] = [:]
    for use in graph.parameterUses where use.role == .weight || use.role == .table {
      tensors[use.node] = container[use.outputName]
    }
    self.tensors = tensors
  }

  /// The scheme of a linear's weight; nil where it is not quantized.
  package func scheme(of node: String) -> QuantizationScheme? { tensors[node]?.scheme }

  /// The schemes of a node's weight and of its input, in words.
  func description(of node: String, in graph: Graph) -> String {
    var parts: [String] = []
    let node = graph.linear(for: node)?.name ?? node
    if let tensor = tensors[node] { parts.append(tensor.storageDescription) }
    if case .linear(let linear)? = graph[node]?.operation, linear.role == .block, let input = graph[node]?.inputs.first
    {
      parts.append((graph.activations[input] ?? .float).storageDescription)
    } else if let activation = graph.activations[node] {
      parts.append(activation.storageDescription)
    }
    return parts.joined(separator: ", ")
  }
}
