/// No transformation; every activation gets one scale per token at run time.
package struct PerToken: QuantizationMethod {
  /// Its name.
  package static let name = "per-token"

  /// The method has no options.
  package init(_ options: inout MethodOptions) {}

  /// The method.
  package init() {}

  /// Dynamic, with no transform.
  package func plan(_ site: SiteContext) -> SitePlan {
    SitePlan(activation: site.request.dynamicActivation, weight: site.request.weight)
  }
}
