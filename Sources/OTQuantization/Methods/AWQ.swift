import OTGraph
import OTJSON
import OTObservation
import OTPlatform

/// AWQ (arXiv 2306.00978, section 3.2): weights alone are quantized, after channels that see large
/// activations have been scaled up, in ranges that clip some (`ClippedRounding`, unless another rounding is chosen).
///
/// With a_j the mean of |x_j| over kept tokens, for ratio = 0, 0.05 … 0.95: s = max(a^ratio, 1e−4), divided by
/// √(max s · min s); the first ratio with the least squared error is taken. The site's values become x / s.
/// The error is that of the linear behind attention or behind a gated product, else of the site's own linears,
/// with that linear's weights as they are. The authors' program looks at a whole block of BLOOM instead.
///
/// It acts where a norm feeds the site, and in front of an MLP's last linear; in front of attention's where the
/// scale goes into the values' linear and heads do not share them.
package struct AWQ: QuantizationMethod {
  /// Its name.
  package static let name = "awq"

  private static let leastScale: Float = 1e-4
  private static let ratioCount = 20

  /// The most samples that ratios are tried on.
  package let sampleCount: Int

  /// Takes `samples`, 8 unless given.
  package init(_ options: inout MethodOptions) throws {
    sampleCount = try options.integer("samples", in: 1...100_000, default: 8)
  }

  /// Whole samples.
  package var needs: Set<ObservationKind> { [.wholeSamples(count: sampleCount)] }

  /// Nearest in clipped ranges.
  package var weightDefaults: WeightDefaults { WeightDefaults(rounding: ClippedRounding()) }

  /// `{samples}`.
  package var record: JSONObject { ["samples": .integer(sampleCount)] }

  /// - Throws: `Refusal` with rule `statistics-missing`, or as trials.
  package func plan(_ site: SiteContext) throws -> SitePlan {
    guard isScaled(site) else { return plan(site, nil) }
    var best: (plan: SitePlan, error: Double)?
    for scale in try scales(site) {
      let plan = plan(site, scale)
      let error = try error(plan, site)
      if error < best?.error ?? .infinity { best = (plan, error) }
    }
    return best?.plan ?? plan(site, nil)
  }

  /// The error of a plan by which plans are compared.
  ///
  /// - Throws: as trials.
  package func error(_ plan: SitePlan, _ site: SiteContext) throws -> Double {
    try site.trial.error(of: plan, through: .module).squaredError
  }

  /// The plan with a scale.
  package func plan(_ site: SiteContext, _ scale: [Float]?) -> SitePlan {
    SitePlan(transform: SiteTransform(scale: scale), activation: .float, weight: site.request.weight)
  }

  private func isScaled(_ site: SiteContext) -> Bool {
    switch site.site.fedBy {
    case .norm, .gate, .activation: true
    case .attention: site.graph.pushability(of: site.site).scale && site.sharedChannels == nil
    default: false
    }
  }

  /// The scales that are tried, one for each ratio.
  ///
  /// - Throws: `Refusal` with rule `statistics-missing`.
  package func scales(_ site: SiteContext) throws -> [[Float]] {
    guard let rows = site.observed.wholeSamples, !rows.places.isEmpty else { throw site.missingStatistics }
    var sums = [Double](repeating: 0, count: rows.channelCount)
    for (index, value) in rows.values.enumerated() { sums[index % rows.channelCount] += Double(abs(value)) }
    let means = sums.map { Float($0 / Double(rows.places.count)) }
    return (0..<AWQ.ratioCount).map { step in
      let raw = means.map { max(powf($0, Float(step) / Float(AWQ.ratioCount)), AWQ.leastScale) }
      let middle = ((raw.max() ?? 1) * (raw.min() ?? 1)).squareRoot()
      return raw.map { $0 / middle }
    }
  }
}
