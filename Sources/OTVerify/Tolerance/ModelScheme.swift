import OTGraph

/// The fewest bits that a model's blocks are reduced to: what its errors
/// depend on most, and by which tolerances are chosen.
package struct ModelScheme: Sendable, Hashable {
  /// Bits of the coarsest weight; 16 where none is quantized.
  package let weightBits: Int
  /// Bits of the coarsest activation; 16 where none is quantized.
  package let activationBits: Int
  /// True when a site has scales found by calibration.
  package let isStatic: Bool

  /// A scheme.
  ///
  /// - Precondition: floats are not static.
  package init(weightBits: Int, activationBits: Int, isStatic: Bool) {
    precondition(activationBits < 16 || !isStatic)
    self.weightBits = weightBits
    self.activationBits = activationBits
    self.isStatic = isStatic
  }

  /// `w6a6-static`, `w8a8-dynamic`, `w6a16`: 16 for floats.
  package var name: String {
    "w\(weightBits)a\(activationBits)" + (activationBits == 16 ? "" : isStatic ? "-static" : "-dynamic")
  }

  init(graph: Graph, weights: StoredWeights) {
    var weightBits = 16
    for node in graph.nodes {
      guard case .linear(let linear) = node.operation, linear.role == .block else { continue }
      weightBits = min(weightBits, weights.scheme(of: node.name)?.bits ?? 16)
    }
    let activations = graph.activations.values
    self.init(
      weightBits: weightBits, activationBits: activations.reduce(16) { min($0, $1.bits ?? 16) },
      isStatic: activations.contains { if case .static = $0 { true } else { false } })
  }

  /// A scheme by its name; nil where it is no scheme's.
  init?(name: String) {
    let all = ([16] + Array(2...8)).flatMap { weights in
      [ModelScheme(weightBits: weights, activationBits: 16, isStatic: false)]
        + (2...8).flatMap { activations in
          [false, true].map { ModelScheme(weightBits: weights, activationBits: activations, isStatic: $0) }
        }
    }
    guard let scheme = all.first(where: { $0.name == name }) else { return nil }
    self = scheme
  }
}
