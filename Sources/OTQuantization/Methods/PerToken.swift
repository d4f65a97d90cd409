import OTGraph

/// No transformation; every activation gets one scale per token at run time.
public struct PerToken: QuantizationMethod {
  /// Its name in metadata.
  public static let name = "per-token"

  /// The method has no parameters.
  public init() {}

  /// Dynamic, with no transform.
  public func decision(for site: Site, in graph: Graph, bits: Int) -> SiteDecision {
    SiteDecision(activation: .dynamic(bits: bits))
  }
}

/// No transformation and float activations: only weights are quantized.
public struct WeightsOnly: QuantizationMethod {
  /// Its name in metadata.
  public static let name = "weights-only"

  /// The method has no parameters.
  public init() {}

  /// Float, with no transform.
  public func decision(for site: Site, in graph: Graph, bits: Int) -> SiteDecision {
    SiteDecision(activation: .float)
  }
}
