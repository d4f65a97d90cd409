import OTGraph
import OTJSON
import OTObservation
import OTPlatform

/// SmoothQuant (arXiv 2211.10438, equation 4): divides each channel of an activation by a scale and
/// multiplies the weights with it, so that outliers move to where they are easier to quantize.
///
/// s_j = max(max|x_j|^α / max(max|W_j|, 1e−5)^(1−α), 1e−5), the maximum over all linears of the site.
/// It acts where a norm feeds the site, and where the scale goes through into what gives the site:
/// o_proj through v_proj, down_proj through up_proj. Channels that share a value head share the
/// largest maxima. Activations get one scale per token at run time, or one static range (section 4.2, O3).
///
/// With a search each site has its own α: of 0, 0.05 … 1 the first with the least error Σ(y − ŷ)² of the
/// linears' outputs on kept samples.
package struct SmoothQuant: QuantizationMethod {
  /// Its name.
  package static let name = "smoothquant"

  /// The least scale, and the least maximum of weights, as in the reference implementation.
  private static let least: Float = 1e-5

  /// The share of the difficulty that moves into the weights: 0 nothing, 1 all; nil: searched for.
  package let alpha: Double?
  /// True when only sites that a norm feeds are scaled, as in the paper.
  package let isForNormsAlone: Bool
  /// The quantizer of activations.
  package let form: ActivationForm
  /// The most samples that an α is tried on.
  package let sampleCount: Int

  /// Takes `alpha`, 0.5 unless given, or `search=true`, `norms-only`, false unless given, `activations`,
  /// token, and `samples` of a search, 8.
  package init(_ options: inout MethodOptions) throws {
    let searches = try options.flag("search", default: false)
    alpha = searches ? nil : try options.number("alpha", in: 0...1, default: 0.5)
    isForNormsAlone = try options.flag("norms-only", default: false)
    form = try options.choice("activations", default: .token)
    sampleCount = searches ? try options.integer("samples", in: 1...100_000, default: 8) : 0
  }

  /// The method with one α, activations with a scale per token.
  package init(alpha: Double = 0.5) {
    (self.alpha, isForNormsAlone, form, sampleCount) = (alpha, false, .token, 0)
  }

  /// Ranges of the channels, and whole samples for a search.
  package var needs: Set<ObservationKind> {
    alpha == nil ? [.ranges, .wholeSamples(count: sampleCount)] : [.ranges]
  }

  /// As its option says.
  package func gives(_ scales: ActivationScales) -> Bool { form == .token ? !scales.isStatic : scales == .tensor }

  /// `{alpha, normsOnly}`, with `samples` instead of `alpha` for a search; `activations` where they are static.
  package var record: JSONObject {
    var record: JSONObject = ["normsOnly": .bool(isForNormsAlone)]
    if let alpha { record["alpha"] = .number(alpha) } else { record["samples"] = .integer(sampleCount) }
    if form != .token { record["activations"] = .string(form.rawValue) }
    return record
  }

  /// - Throws: `Refusal` with rule `statistics-missing` for a site that is scaled or static and has no
  ///   statistics; as weights are read, and trials.
  package func plan(_ site: SiteContext) throws -> SitePlan {
    guard let maxima = try maxima(site) else { return try site.plan(form, range: site.range()) }
    if let alpha { return try plan(site, maxima, alpha) }
    var best: (plan: SitePlan, error: Double)?
    for step in 0...20 {
      let plan = try plan(site, maxima, Double(step) / 20)
      let error = try site.trial.error(of: plan).squaredError
      if error < best?.error ?? .infinity { best = (plan, error) }
    }
    return try best?.plan ?? plan(site, maxima, 0.5)
  }

  private typealias Maxima = (activations: [Float], weights: [Float])

  /// The plan with an α.
  private func plan(_ site: SiteContext, _ maxima: Maxima, _ alpha: Double) throws -> SitePlan {
    let transform = ChannelTransform(
      scale: zip(maxima.activations, maxima.weights).map { scale($0, $1, alpha) })
    return try site.plan(form, after: transform, range: site.range(after: transform))
  }

  /// max|x| and max|W| of the channels; nil for a site that is not scaled.
  private func maxima(_ site: SiteContext) throws -> Maxima? {
    guard site.site.isNormFed || (!isForNormsAlone && site.graph.pushability(of: site.site).scale) else { return nil }
    guard var activations = site.observed.absoluteMaximum else { throw site.missingStatistics }
    var weights = try site.weights.columnMaxima()
    if let shared = site.sharedChannels {
      activations = SmoothQuant.largest(activations, shared)
      weights = SmoothQuant.largest(weights, shared)
    }
    return (activations, weights)
  }

  private func scale(_ activation: Float, _ weight: Float, _ alpha: Double) -> Float {
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
