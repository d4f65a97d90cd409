import OTFoundation
import OTGraph
import OTObservation

/// OutlierTune (arXiv 2406.18832): symmetrization, then pre-execution of
/// dequantization, on the sites that a norm feeds.
///
/// Symmetrization shifts each channel by its midpoint z, the mean over the samples of
/// each sample's (max + min) / 2; then max|x − z| = max(max − z, z − min), so that no
/// second pass over the text is needed. Pre-execution then divides by the static step σ_j = max(max|x_j − z_j|, 1e−5) / (2^(bits−1) − 1),
/// so that the site holds integers and the step lives in the columns of the
/// weights that follow. All other sites get one scale per token at run time.
package struct OutlierTune: QuantizationMethod {
  /// Its name in metadata.
  package static let name = "outliertune"

  /// The least absolute maximum, as in the reference implementation: a channel
  /// that never moves gets a step that is not zero.
  static let leastMaximum: Float = 1e-5

  /// The observations of the sites.
  package let observations: ModelObservations
  /// True when channels are shifted by their midpoints.
  package let isSymmetrized: Bool

  /// OutlierTune with what was observed of a model.
  ///
  /// - Parameter isSymmetrized: what another tool measured is used as it gives it.
  package init(_ observations: ModelObservations, isSymmetrized: Bool = true) {
    self.observations = observations
    self.isSymmetrized = isSymmetrized
  }

  /// - Throws: `Refusal` with rule `statistics-missing` for a site that a norm
  ///   feeds and that has no statistics.
  package func decision(for site: Site, in graph: Graph, bits: Int) throws -> SiteDecision {
    guard site.isNormFed else { return SiteDecision(activation: .dynamic(bits: bits)) }
    guard let (shift, absoluteMaximum) = shiftAndMaximum(observations[site]) else {
      throw Refusal(
        "statistics-missing", "there are no statistics for '\(site.consumers.first ?? site.producer)'",
        remedy: "gather statistics of every linear, or exclude it")
    }
    let largest = Float((1 << (bits - 1)) - 1)
    let steps = absoluteMaximum.map { max($0, OutlierTune.leastMaximum) / largest }
    return SiteDecision(
      transform: ChannelTransform(shift: shift, scale: steps), activation: .static(bits: bits))
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
