import OTJSON
import OTObservation

/// One static range for each site, from the least to the greatest value of calibration: the observers
/// `MinMaxObserver` and `AvgMinMaxObserver` of Outlier Suppression+ (arXiv 2304.09145).
///
/// With `average` the range is the mean over the samples of each sample's least and greatest value.
/// The quantizer is `StaticRange`'s.
package struct MinMax: QuantizationMethod {
  /// Its name.
  package static let name = "minmax"

  /// True when the range is symmetric around 0.
  package let isSymmetric: Bool
  /// True when the extremes of the samples are averaged.
  package let isAverage: Bool

  /// Takes `symmetric` and `average`, false unless given.
  package init(_ options: inout MethodOptions) throws {
    isSymmetric = try options.flag("symmetric", default: false)
    isAverage = try options.flag("average", default: false)
  }

  /// The method.
  package init() { (isSymmetric, isAverage) = (false, false) }

  /// Ranges of the channels, or those of each sample.
  package var needs: Set<ObservationKind> { isAverage ? [.sampleRanges] : [.ranges] }

  /// One static one.
  package func gives(_ scales: ActivationScales) -> Bool { scales == .tensor }

  /// `{symmetric, average}`.
  package var record: JSONObject { ["symmetric": .bool(isSymmetric), "average": .bool(isAverage)] }

  /// - Throws: `Refusal` with rule `statistics-missing`.
  package func plan(_ site: SiteContext) throws -> SitePlan {
    try site.plan(isSymmetric ? .symmetric : .asymmetric, range: range(site))
  }

  /// The range of a site.
  ///
  /// - Throws: `Refusal` with rule `statistics-missing`.
  package func range(_ site: SiteContext) throws -> StaticRange {
    guard isAverage else { return try site.range() }
    guard let samples = site.observed.sampleRanges, !samples.isEmpty else { throw site.missingStatistics }
    return StaticRange(meanOf: samples.map { StaticRange($0) })
  }
}

extension StaticRange {
  /// The mean of the least values, and that of the greatest.
  package init(meanOf ranges: [StaticRange]) {
    let count = Double(max(ranges.count, 1))
    self.init(
      minimum: Float(ranges.reduce(0) { $0 + Double($1.minimum) } / count),
      maximum: Float(ranges.reduce(0) { $0 + Double($1.maximum) } / count))
  }
}
