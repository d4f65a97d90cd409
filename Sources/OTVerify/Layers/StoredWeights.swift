import OTContainer
import OTGraph
import OTTensor

/// How the weights of a packed model's linears are stored, by node.
public struct StoredWeights: Sendable {
  private let tensors: [String: StoredTensor]

  /// The weights of `graph` in `container`.
  public init(graph: Graph, container: Container) {
    var tensors: [String: StoredTensor] = [:]
    for use in graph.parameterUses where use.role == .weight || use.role == .table {
      tensors[use.node] = container[use.outputName]
    }
    self.tensors = tensors
  }

  /// The scheme of a linear's weight; nil where it is not quantized.
  public func scheme(of node: String) -> QuantizationScheme? { tensors[node]?.scheme }

  /// How a node's weight and its input are stored, in words.
  func description(of node: String, in graph: Graph) -> String {
    var parts: [String] = []
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

/// The fewest bits that a model's blocks are reduced to: what its errors
/// depend on most, and by which tolerances are chosen.
public struct ModelScheme: Sendable, Hashable {
  /// Bits of the coarsest weight; 16 where none is quantized.
  public let weightBits: Int
  /// Bits of the coarsest activation; 16 where none is quantized.
  public let activationBits: Int

  /// A scheme.
  public init(weightBits: Int, activationBits: Int) {
    self.weightBits = weightBits
    self.activationBits = activationBits
  }

  /// `w6a8`, with 16 for floats.
  public var name: String { "w\(weightBits)a\(activationBits)" }

  init(graph: Graph, weights: StoredWeights) {
    var weightBits = 16
    for node in graph.nodes {
      guard case .linear(let linear) = node.operation, linear.role == .block else { continue }
      weightBits = min(weightBits, weights.scheme(of: node.name)?.bits ?? 16)
    }
    self.weightBits = weightBits
    activationBits = graph.activations.values.reduce(16) { min($0, $1.bits ?? 16) }
  }

  /// A scheme by its name; nil unless it has bits from 2 to 8, or 16.
  init?(name: String) {
    let parts = name.dropFirst().split(separator: "a", omittingEmptySubsequences: false)
    guard name.first == "w", parts.count == 2, let weights = Int(parts[0]), let activations = Int(parts[1]),
      [weights, activations].allSatisfy({ (2...8).contains($0) || $0 == 16 }),
      name == "w\(weights)a\(activations)"
    else { return nil }
    (weightBits, activationBits) = (weights, activations)
  }
}
