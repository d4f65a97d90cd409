/// No transformation and float activations: only weights are quantized.
package struct WeightsOnly: QuantizationMethod {
  /// Its name.
  package static let name = "weights-only"

  /// The method has no options.
  package init(_ options: inout MethodOptions) {}

  /// The method.
  package init() {}

  /// None.
  package func gives(_ scales: ActivationScales) -> Bool { false }

  /// Float, with no transform.
  package func plan(_ site: SiteContext) -> SitePlan {
    SitePlan(activation: .float, weight: site.request.weight)
  }
}
