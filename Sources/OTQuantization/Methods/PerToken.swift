import OTGraph

/// No transformation; every activation gets one scale per token at run time.
public struct PerToken: QuantizationMethod {
  public static let name = "per-token"

  public init() {}

  public func decision(for site: Site, in graph: Graph, bits: Int) -> SiteDecision {
    SiteDecision(activation: .dynamic(bits: bits))
  }
}

/// No transformation and float activations: only weights are quantized.
public struct WeightsOnly: QuantizationMethod {
  public static let name = "weights-only"

  public init() {}

  public func decision(for site: Site, in graph: Graph, bits: Int) -> SiteDecision {
    SiteDecision(activation: .float)
  }
}
