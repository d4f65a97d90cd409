import OTGraph
import OTJSON
import OTObservation

/// Outlier Suppression+ (arXiv 2304.09145): channel-wise shifting, then scaling by a threshold that a
/// search finds with what attention or the gate of an MLP makes of the site.
///
/// - Shift (equation 3): z_j = (max_j + min_j) / 2, where a LayerNorm feeds the site.
/// - Scale (equation 8), with r_j = max|x_j − z_j|: s_j = max(1, r_j / t).
/// - Threshold (section 4.3): from T = max r down to B (1, or 0.1 without LayerNorm) in K steps of (T − B) / K,
///   K = max(100, ⌊max(x − z) / 0.5⌋), the first t with the least error Σ(y − ŷ)² on whole samples; y is
///   attention's value for queries, keys and values (equation 7), the product for a gate and what it
///   gates, else the linears' own. There the activation has the static range [−t, t], or its scales per
///   token, and the weights are rounded to the nearest. `grid=paper` has t = T·k / 100, k = 1 … 100, instead, and
///   `grid=refined` of these every tenth, and then those five, two and one from the best so far: 16 of them.
///
/// It acts where a norm feeds the site, and where a gate does and the scale goes into the linear that is
/// gated (LLaMA's down_proj through up_proj), there without a shift. All other sites have one range. Either step may be
/// left out, as in the paper's ablation.
package struct OutlierSuppressionPlus: QuantizationMethod {
  /// Its name.
  package static let name = "osplus"

  /// The thresholds that are tried.
  package enum Grid: String, Sendable, CaseIterable {
    /// Those of the authors' program.
    case program
    /// Those of the paper.
    case paper
    /// Of the paper's those that a search from coarse to fine leads to.
    case refined
  }

  /// The quantizer of activations.
  package let form: ActivationForm
  /// The thresholds that are tried.
  package let grid: Grid
  /// The most samples that a threshold is tried on.
  package let sampleCount: Int
  /// True when channels are shifted.
  package let shifts: Bool
  /// True when channels are scaled.
  package let scales: Bool

  /// Takes `activations`, asymmetric unless given, `grid`, program, `samples`, 8, `shift` and `scale`, true.
  package init(_ options: inout MethodOptions) throws {
    form = try options.choice("activations", default: .asymmetric)
    grid = try options.choice("grid", default: .program)
    sampleCount = try options.integer("samples", in: 1...100_000, default: 8)
    shifts = try options.flag("shift", default: true)
    scales = try options.flag("scale", default: true)
  }

  /// The method.
  package init(form: ActivationForm = .asymmetric, grid: Grid = .program, sampleCount: Int = 8) {
    (self.form, self.grid, self.sampleCount) = (form, grid, sampleCount)
    (shifts, scales) = (true, true)
  }

  /// Ranges of the channels, and whole samples for the search.
  package var needs: Set<ObservationKind> { scales ? [.ranges, .wholeSamples(count: sampleCount)] : [.ranges] }

  /// As its option says.
  package func gives(_ scales: ActivationScales) -> Bool { form == .token ? !scales.isStatic : scales == .tensor }

  /// `{activations, grid, samples}`, and `shift` or `scale` where the step is left out.
  package var record: JSONObject {
    var record: JSONObject = [
      "activations": .string(form.rawValue), "grid": .string(grid.rawValue), "samples": .integer(sampleCount),
    ]
    if !shifts { record["shift"] = .bool(false) }
    if !scales { record["scale"] = .bool(false) }
    return record
  }

  /// - Throws: `Refusal` with rule `statistics-missing`, or as trials.
  package func plan(_ site: SiteContext) throws -> SitePlan {
    guard let search = try Search(self, site) else { return try site.plan(form, range: site.range()) }
    let threshold = !scales ? nil : grid == .refined ? try search.refined() : try search.best(of: search.thresholds)
    let transform = search.transform(threshold ?? search.largest)
    return try site.plan(form, after: transform, range: site.range(after: transform))
  }

  /// The search for a site's threshold.
  package struct Search {
    /// z; nil where the site is not shifted.
    package let shift: [Float]?
    /// T, the greatest threshold.
    package let largest: Float
    /// The thresholds, in the order in which they are tried; none where T is below the least of the program's grid, or
    /// where a search chooses them.
    package let thresholds: [Float]
    private let maxima: [Float]
    private let site: SiteContext
    private let form: ActivationForm

    /// Nil for a site that the method leaves as it is.
    ///
    /// - Throws: `Refusal` with rule `statistics-missing`.
    package init?(_ method: OutlierSuppressionPlus, _ site: SiteContext) throws {
      let isGated = site.site.fedBy == .gate && site.graph.pushability(of: site.site).scale
      guard site.site.isNormFed || isGated else { return nil }
      guard let ranges = site.observed.ranges else { throw site.missingStatistics }
      let hasLayerNorm = site.isFedByLayerNorm
      shift = hasLayerNorm && method.shifts ? ranges.midpoint : nil
      let shifted = ranges.extremes.shifted(by: shift)
      maxima = zip(shifted.minima, shifted.maxima).map { max(-$0, $1) }
      largest = maxima.max() ?? 0
      thresholds = OutlierSuppressionPlus.thresholds(
        method.grid, from: Double(largest), to: hasLayerNorm ? 1 : 0.1, positive: Double(shifted.maxima.max() ?? 0))
      self.site = site
      form = method.form
    }

    /// z and s for a threshold.
    package func transform(_ threshold: Float) -> ChannelTransform {
      ChannelTransform(
        shift: shift, scale: maxima.map { threshold > 0 ? max(1, $0 / threshold) : 1 })
    }

    /// The first of some thresholds with the least error; nil where none has an error that is a number.
    ///
    /// - Throws: as trials.
    func best(of thresholds: [Float]) throws -> Float? {
      var best: (threshold: Float, error: Double)?
      for threshold in thresholds {
        let error = try error(threshold)
        if error < best?.error ?? .infinity { best = (threshold, error) }
      }
      return best?.threshold
    }

    /// The hundredth of T that a search from coarse to fine leads to, times T.
    ///
    /// - Throws: as trials.
    package func refined() throws -> Float? {
      var best: (part: Int, error: Double)?
      func take(_ part: Int) throws {
        guard (1...100).contains(part) else { return }
        let error = try error(largest * Float(part) / 100)
        if error < best?.error ?? .infinity { best = (part, error) }
      }
      for part in stride(from: 10, through: 100, by: 10) { try take(part) }
      for step in [5, 2, 1] {
        guard let middle = best?.part else { return nil }
        try take(middle - step)
        try take(middle + step)
      }
      return best.map { largest * Float($0.part) / 100 }
    }

    /// Σ(y − ŷ)² with a threshold.
    ///
    /// - Throws: as trials.
    package func error(_ threshold: Float) throws -> Double {
      let plan = site.plan(
        form, after: transform(threshold), range: StaticRange(minimum: -threshold, maximum: threshold))
      return try site.trial.error(of: plan, through: .junction).squaredError
    }
  }

  private static func thresholds(_ grid: Grid, from top: Double, to bottom: Double, positive: Double) -> [Float] {
    switch grid {
    case .program: break
    case .paper: return (1...100).map { Float(top * Double($0) / 100) }
    case .refined: return []
    }
    guard top >= bottom else { return [] }
    let count = max(100, (positive / 0.5).rounded(.down))
    let step = (top - bottom) / count
    var thresholds: [Float] = []
    var threshold = top
    while threshold >= bottom {
      thresholds.append(Float(threshold))
      guard step > 0 else { break }
      threshold -= step
    }
    return thresholds
  }
}

extension ChannelRanges {
  /// The ranges of x − z.
  fileprivate func shifted(by shift: [Float]?) -> ChannelRanges {
    guard let shift else { return self }
    return ChannelRanges(minima: zip(minima, shift).map { $0 - $1 }, maxima: zip(maxima, shift).map { $0 - $1 })
  }
}
