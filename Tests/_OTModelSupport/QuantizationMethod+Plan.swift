import OTGraph
import OTModel
import OTObservation
import OTQuantization
import OTTensor

extension QuantizationMethod {
  /// What the method decides about a site; without `parameters` it cannot read weights.
  package func plan(
    _ site: Site, in graph: Graph, bits: Int, _ observed: SiteObservations,
    parameters: ParameterReader = ParameterReader([TensorView]())
  ) throws -> SitePlan {
    let scheme = QuantizationScheme(bits: bits, isSymmetric: false, granularity: .perChannel)
    return try plan(
      SiteContext(
        site, in: graph, request: SiteRequest(activationBits: bits, weight: WeightPlan(scheme: scheme)),
        observed: observed, parameters: parameters, threadCount: 2))
  }
}
