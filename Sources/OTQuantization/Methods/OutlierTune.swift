import OTFoundation
import OTGraph
import OTJSON
import OTObservation

/// OutlierTune (arXiv 2406.18832): symmetrization, then pre-execution of
/// dequantization, on the sites that a norm feeds.
///
/// Symmetrization shifts each channel by its midpoint z, the mean over the samples of
/// each sample's (max + min) / 2; then max|x − z| = max(max − z, z − min), so that no
/// second pass over the text is needed. Pre-execution then divides by the static step
/// σ_j = max(max|x_j − z_j|, 1e−5) / (2^(bits−1) − 1), so that the site holds integers
/// and the step lives in the columns of the weights that follow. All other sites get
/// one scale per token at run time.
package struct OutlierTune: QuantizationMethod {
  /// Its name.
  package static let name = "outliertune"

  /// The least absolute maximum, as in the reference implementation: a channel
  /// that never moves gets a step that is not zero.
  static let leastMaximum: Float = 1e-5

  /// True when channels are shifted by their midpoints; another tool's measurements are used as they are.
  package let isSymmetrized: Bool

  /// Takes `symmetrize`, true unless given.
  package init(_ options: inout MethodOptions) throws {
    isSymmetrized = try options.flag("symmetrize", default: true)
  }

  /// The method.
  package init(isSymmetrized: Bool = true) { self.isSymmetrized = isSymmetrized }

  /// Ranges of the channels.
  package var needs: Set<ObservationKind> { [.ranges] }

  /// Static ones of each channel.
  package func gives(_ scales: ActivationScales) -> Bool { scales == .channel }

  /// `{symmetrized}`.
  package var record: JSONObject { ["symmetrized": .bool(isSymmetrized)] }

  /// - Throws: `Refusal` with rule `statistics-missing` for a site that a norm
  ///   feeds and that has no statistics.
  package func plan(_ site: SiteContext) throws -> SitePlan {
    let bits = site.request.activationBits
    guard site.site.isNormFed, bits < 16 else {
      return SitePlan(activation: site.request.dynamicActivation, weight: site.request.weight)
    }
    guard let (shift, absoluteMaximum) = shiftAndMaximum(site.observed) else { throw site.missingStatistics }
    let largest = Float((1 << (bits - 1)) - 1)
    let steps = absoluteMaximum.map { max($0, OutlierTune.leastMaximum) / largest }
    return SitePlan(
      transform: SiteTransform(shift: shift, scale: steps), activation: .static(bits: bits),
      weight: site.request.weight)
  }

  /// z and max|x − z| of each channel; without symmetrization max|x|.
  private func shiftAndMaximum(_ site: SiteObservations) -> (shift: [Float]?, absoluteMaximum: [Float])? {
    if let scales = site.foreignScales { return (scales.midpoint, scales.absoluteMaximum) }
    guard let ranges = site.ranges else { return nil }
    guard isSymmetrized else { return (nil, ranges.absoluteMaximum) }
    let z = ranges.meanMidpoint
    return (z, z.indices.map { max(ranges.maxima[$0] - z[$0], z[$0] - ranges.minima[$0]) })
  }
}
