import OTJSON
import OTObservation

/// One static range for each site, clipped at a quantile of |x|: the observer `AvgQuantileObserver` of
/// Outlier Suppression+ (arXiv 2304.09145).
///
/// A histogram of |x| has 2048 bins over 0 … A, A = max(−min, max). The first bin i at which the count so
/// far is p·N or more gives clip = (i + ½)·A / 2048, and the range is [max(min, −clip), min(max, clip)].
/// With `average` each sample has its own, and the range is their mean.
package struct Percentile: QuantizationMethod {
  /// Its name.
  package static let name = "percentile"

  private static let binCount = 2048

  /// The share of values that is not clipped.
  package let share: Double
  /// True when the range is symmetric around 0.
  package let isSymmetric: Bool
  /// True when the ranges of the samples are averaged.
  package let isAverage: Bool
  /// The most rows of calibration that are looked at.
  package let rowCount: Int

  /// Takes `p`, 0.999 unless given, `symmetric` and `average`, false, and `rows`, 1024.
  package init(_ options: inout MethodOptions) throws {
    share = try options.number("p", in: 0.5...1, default: 0.999)
    isSymmetric = try options.flag("symmetric", default: false)
    isAverage = try options.flag("average", default: false)
    rowCount = try options.rowCount()
  }

  /// Rows.
  package var needs: Set<ObservationKind> { [.rows(count: rowCount)] }

  /// One static one.
  package func gives(_ scales: ActivationScales) -> Bool { scales == .tensor }

  /// `{p, symmetric, average, rows}`.
  package var record: JSONObject {
    [
      "p": .number(share), "symmetric": .bool(isSymmetric), "average": .bool(isAverage), "rows": .integer(rowCount),
    ]
  }

  /// - Throws: `Refusal` with rule `statistics-missing`.
  package func plan(_ site: SiteContext) throws -> SitePlan {
    try site.plan(isSymmetric ? .symmetric : .asymmetric, range: range(site))
  }

  /// The range of a site.
  ///
  /// - Throws: `Refusal` with rule `statistics-missing`.
  package func range(_ site: SiteContext) throws -> StaticRange {
    guard let rows = site.observed.rows else { throw site.missingStatistics }
    guard isAverage else { return range(rows.values) }
    return StaticRange(meanOf: rows.matrices.map { range($0.values) })
  }

  private func range(_ values: [Float]) -> StaticRange {
    let low = values.min() ?? 0
    let high = values.max() ?? 0
    let largest = max(-low, high)
    guard largest > 0 else { return StaticRange(minimum: low, maximum: high) }
    var counts = [Int](repeating: 0, count: Percentile.binCount)
    for value in values {
      let bin = abs(value) / largest * Float(Percentile.binCount)
      counts[min(Int(bin), Percentile.binCount - 1)] += 1
    }
    // In float32, as the authors' program compares: far out one value more moves the clip by many bins.
    let wanted = Float(share * Double(values.count))
    var sum = 0
    let last = counts.firstIndex { count in
      sum += count
      return Float(sum) >= wanted
    }
    let clip = (Float(last ?? Percentile.binCount - 1) + 0.5) * largest / Float(Percentile.binCount)
    return StaticRange(minimum: max(low, -clip), maximum: min(high, clip))
  }
}

extension MethodOptions {
  /// Takes `rows`: the most rows of calibration that a method keeps, 1024 unless given.
  ///
  /// - Throws: as `integer`.
  package mutating func rowCount() throws -> Int { try integer("rows", in: 1...1_000_000, default: 1024) }
}
