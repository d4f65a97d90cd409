import OTGraph
import OTJSON
import OTObservation

/// Outlier Suppression (arXiv 2209.13325): gamma migration, and the coarse stage of token-wise clipping.
/// The fine stage, which learns steps by gradient, is left out.
///
/// Gamma migration (section 4.1): where a norm feeds the site, s = |γ|, so that the norm's gain goes into
/// the weights; the sign stays with the activation, since scales are positive, and a gain of 0 has s = 1.
///
/// Token-wise clipping (section 4.2) with ratio p: of the greatest values a_t and the least values b_t of
/// the tokens, h = quantile(|a|, p), l = −quantile(|b|, p), interpolated linearly; the range is
/// [min{b_t : b_t ≥ l}, max{a_t : a_t ≤ h}]. With p = 1 nothing is clipped. One ratio is
/// for all sites: given, or of p = 1, 1 − step, 1 − 2·step … the first with the least loss of the quantized
/// model on the samples (`ModelTrial`).
package struct OutlierSuppression: QuantizationMethod {
  /// Its name.
  package static let name = "os"

  /// True when gains are migrated.
  package let migratesGamma: Bool
  /// p: the share of tokens that are not clipped; while it is searched for, 1.
  package let ratio: Double
  /// The ratios that are tried; empty where it is given.
  package let ratios: [Double]
  /// True when the range is symmetric around 0.
  package let isSymmetric: Bool
  /// The most rows of calibration that are looked at.
  package let rowCount: Int

  /// Takes `gamma`, true unless given, `ratio`, 1, or `search=true` with `step`, 0.005, and `tries`, 20, and
  /// `symmetric`, false, and `rows`, 1024.
  package init(_ options: inout MethodOptions) throws {
    migratesGamma = try options.flag("gamma", default: true)
    let searches = try options.flag("search", default: false)
    ratio = searches ? 1 : try options.number("ratio", in: 0...1, default: 1)
    if searches {
      let step = try options.number("step", in: 1e-6...0.5, default: 0.005)
      let count = try options.integer("tries", in: 1...1000, default: 20)
      ratios = (0..<count).map { 1 - Double($0) * step }.filter { $0 > 0 }
    } else {
      ratios = []
    }
    isSymmetric = try options.flag("symmetric", default: false)
    rowCount = try options.rowCount()
  }

  private init(_ method: OutlierSuppression, ratio: Double) {
    migratesGamma = method.migratesGamma
    self.ratio = ratio
    ratios = []
    isSymmetric = method.isSymmetric
    rowCount = method.rowCount
  }

  /// One with each ratio.
  package var candidates: [any QuantizationMethod] { ratios.map { OutlierSuppression(self, ratio: $0) } }

  /// Ranges of the channels; rows where tokens are clipped.
  package var needs: Set<ObservationKind> {
    ratio < 1 || !ratios.isEmpty ? [.ranges, .rows(count: rowCount)] : [.ranges]
  }

  /// One static one.
  package func gives(_ scales: ActivationScales) -> Bool { scales == .tensor }

  /// `{gamma, ratio, symmetric}`, and `rows` where tokens are clipped.
  package var record: JSONObject {
    var record: JSONObject = [
      "gamma": .bool(migratesGamma), "ratio": .number(ratio), "symmetric": .bool(isSymmetric),
    ]
    if ratio < 1 { record["rows"] = .integer(rowCount) }
    return record
  }

  /// - Throws: `Refusal` with rule `statistics-missing`; as parameters are read.
  package func plan(_ site: SiteContext) throws -> SitePlan {
    let transform = try migration(site)
    return try site.plan(
      isSymmetric ? .symmetric : .asymmetric, after: transform, range: range(site, after: transform))
  }

  private func migration(_ site: SiteContext) throws -> ChannelTransform {
    guard migratesGamma, let gain = try site.normGain() else { return .identity }
    return ChannelTransform(scale: gain.map { $0 == 0 ? 1 : abs($0) })
  }

  private func range(_ site: SiteContext, after transform: ChannelTransform) throws -> StaticRange {
    guard ratio < 1 else { return try site.range(after: transform) }
    guard let rows = site.observed.transformed(by: transform).rows, !rows.places.isEmpty else {
      throw site.missingStatistics
    }
    var (least, greatest): ([Float], [Float]) = ([], [])
    for start in stride(from: 0, to: rows.values.count, by: rows.channelCount) {
      let row = rows.values[start..<start + rows.channelCount]
      least.append(row.min() ?? 0)
      greatest.append(row.max() ?? 0)
    }
    let low = -OutlierSuppression.quantile(least.map { abs($0) }, ratio)
    let high = OutlierSuppression.quantile(greatest.map { abs($0) }, ratio)
    return StaticRange(
      minimum: least.filter { $0 >= low }.min() ?? low, maximum: greatest.filter { $0 <= high }.max() ?? high)
  }

  /// The value below which `share` of the values are, interpolated linearly.
  private static func quantile(_ values: [Float], _ share: Double) -> Float {
    let sorted = values.sorted()
    let place = share * Double(sorted.count - 1)
    let index = min(Int(place), sorted.count - 1)
    let next = min(index + 1, sorted.count - 1)
    return sorted[index] + Float(place - Double(index)) * (sorted[next] - sorted[index])
  }
}
