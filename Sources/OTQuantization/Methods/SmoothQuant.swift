import Foundation
import OTGraph
import OTJSON
import OTObservation

/// SmoothQuant (arXiv 2211.10438, equation 4): divides each channel of an activation by a scale and
/// multiplies the weights with it, so that outliers move to where they are easier to quantize.
///
/// s_j = max(max|x_j|^α / max(max|W_j|, 1e−5)^(1−α), 1e−5), the maximum over all linears of the site.
/// It acts where a norm feeds the site, and where the scale goes through into what gives the site:
/// o_proj through v_proj, down_proj through up_proj. Channels that share a value head share the
/// largest maxima. Activations get one scale per token at run time.
package struct SmoothQuant: QuantizationMethod {
  /// Its name.
  package static let name = "smoothquant"

  /// The least scale, and the least maximum of weights, as in the reference implementation.
  private static let least: Float = 1e-5

  /// The share of the difficulty that moves into the weights: 0 nothing, 1 all.
  package let alpha: Double
  /// True when only sites that a norm feeds are scaled, as in the paper.
  package let isForNormsAlone: Bool

  /// Takes `alpha`, 0.5 unless given, and `norms-only`, false unless given.
  package init(_ options: inout MethodOptions) throws {
    alpha = try options.number("alpha", in: 0...1, default: 0.5)
    isForNormsAlone = try options.flag("norms-only", default: false)
  }

  /// Ranges of the channels.
  package var needs: Set<ObservationKind> { [.ranges] }

  /// `{alpha, normsOnly}`.
  package var record: JSONObject { ["alpha": .number(alpha), "normsOnly": .bool(isForNormsAlone)] }

  /// - Throws: `Refusal` with rule `statistics-missing` for a site that is scaled and has no
  ///   statistics; as weights are read.
  package func plan(_ site: SiteContext) throws -> SitePlan {
    var plan = SitePlan(
      activation: site.request.dynamicActivation, weight: site.request.weight)
    guard site.site.isNormFed || (!isForNormsAlone && site.graph.pushability(of: site.site).scale) else { return plan }
    guard var activations = site.observed.absoluteMaximum else { throw site.missingStatistics }
    var weights = try site.weights.columnMaxima()
    if let shared = site.sharedChannels {
      activations = SmoothQuant.largest(activations, shared)
      weights = SmoothQuant.largest(weights, shared)
    }
    plan.transform = SiteTransform(scale: zip(activations, weights).map(scale))
    return plan
  }

  private func scale(_ activation: Float, _ weight: Float) -> Float {
    let smoothed = powf(activation, Float(alpha)) / powf(max(weight, SmoothQuant.least), Float(1 - alpha))
    return max(smoothed, SmoothQuant.least)
  }

  /// For each channel the largest value of those that share its first.
  private static func largest(_ values: [Float], _ representatives: [Int]) -> [Float] {
    var largest = values
    for (channel, first) in representatives.enumerated() { largest[first] = max(largest[first], values[channel]) }
    return representatives.map { largest[$0] }
  }
}
