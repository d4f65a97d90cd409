import OTFoundation
import OTGraph

/// OutlierTune (arXiv 2406.18832): symmetrization, then pre-execution of
/// dequantization, on the sites that a norm feeds.
///
/// Symmetrization shifts each channel by its midpoint z. Pre-execution then
/// divides by the static step σ_j = max(max|x_j − z_j|, 1e−5) / (2^(bits−1) − 1),
/// so that the site holds integers and the step lives in the columns of the
/// weights that follow. All other sites get one scale per token at run time.
package struct OutlierTune: QuantizationMethod {
  /// Its name in metadata.
  package static let name = "outliertune"

  /// The least absolute maximum, as in the reference implementation: a channel
  /// that never moves gets a step that is not zero.
  static let leastMaximum: Float = 1e-5

  /// What calibration knows of the sites.
  package let statistics: ActivationStatistics

  /// OutlierTune with the statistics of a model.
  package init(statistics: ActivationStatistics) { self.statistics = statistics }

  /// - Throws: `Refusal` with rule `statistics-missing` for a site that a norm
  ///   feeds and that has no statistics.
  package func decision(for site: Site, in graph: Graph, bits: Int) throws -> SiteDecision {
    guard site.isNormFed else { return SiteDecision(activation: .dynamic(bits: bits)) }
    guard let known = statistics[site] else {
      throw Refusal(
        "statistics-missing", "there are no statistics for '\(site.consumers.first ?? site.producer)'",
        remedy: "gather statistics of every linear, or exclude it")
    }
    let largest = Float((1 << (bits - 1)) - 1)
    let steps = known.absoluteMaximum.map { max($0, OutlierTune.leastMaximum) / largest }
    return SiteDecision(
      transform: ChannelTransform(shift: known.midpoint, scale: steps), activation: .static(bits: bits))
  }
}
