import OTGraph

/// No transformation; every activation gets one scale per token at run time.
package struct PerToken: QuantizationMethod {
  /// Its name in metadata.
  package static let name = "per-token"

  /// The method has no parameters.
  package init() {}

  /// Dynamic, with no transform.
  package func decision(for site: Site, in graph: Graph, bits: Int) -> SiteDecision {
    SiteDecision(activation: .dynamic(bits: bits))
  }
}

/// No transformation and float activations: only weights are quantized.
package struct WeightsOnly: QuantizationMethod {
  /// Its name in metadata.
  package static let name = "weights-only"

  /// The method has no parameters.
  package init() {}

  /// Float, with no transform.
  package func decision(for site: Site, in graph: Graph, bits: Int) -> SiteDecision {
    SiteDecision(activation: .float)
  }
}
