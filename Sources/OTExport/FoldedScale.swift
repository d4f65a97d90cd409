import OTGraph

/// Powers of two that are moved between the parameters around a site, so that what is small through its scales fits
/// float16.
///
/// A site's scales s are divided by 2^k, k of their median: the producer's parameters are multiplied by it and the
/// weights that read the site divided, which is exact and leaves the function as it is. Only for formats in which sites
/// have no scales of their own.
struct FoldedScale: Sendable {
  /// k of each value that has one, by its node.
  private let exponents: [String: Int]
  private let graph: Graph?

  /// - Parameter graph: nil: nothing is moved.
  init(_ graph: Graph?) {
    self.graph = graph
    guard let graph else {
      exponents = [:]
      return
    }
    // Parts of a fused value have scales of their own, which are not told apart here.
    let isSliced = graph.nodes.contains { if case .channelSlice = $0.operation { true } else { false } }
    exponents = graph.nodes.reduce(into: [:]) { exponents, node in
      guard !isSliced || node.operation.kind == .norm else { return }
      exponents[node.name] = FoldedScale.exponent(graph.transform(ofValue: node.name))
    }
  }

  /// The factor of a parameter's elements.
  func factor(_ use: ParameterUse?) -> Float {
    guard let graph, let use else { return 1 }
    var exponent = exponents[use.node] ?? 0
    if use.role == .weight, let input = graph[use.node]?.inputs.first { exponent -= exponents[input] ?? 0 }
    return Float(sign: .plus, exponent: exponent, significand: 1)
  }

  /// The binary exponent of the median, which is the same where heads' scales are repeated for groups of them.
  private static func exponent(_ transform: ChannelTransform) -> Int {
    guard let scale = transform.scale, !scale.isEmpty else { return 0 }
    let median = scale.sorted()[scale.count / 2]
    // Beyond these no factor is right for float32 either.
    return max(-60, min(60, Int(median.exponent)))
  }
}
