import OTJSON
import OTObservation

/// One static range for each site, the one of a grid whose quantizer has the least mean squared error:
/// OMSE (arXiv 1902.06822), as `MSEObserver` of Outlier Suppression+ (arXiv 2304.09145) searches it.
///
/// - Symmetric: [−t, t] with t = A·i/100, i = 1 … 100, A = max|x|; values of one sign have [0, t] or [−t, 0].
/// - Asymmetric: with r = max − min, for i = 1 … 100, for zp = 0 … 2^b − 1: δ = (r·i/100) / (2^b − 1), range
///   [max(−zp·δ, min), min(r·i/100 − zp·δ, max)]; values of one sign have the symmetric grid.
///
/// The first range with the least error is taken.
package struct OMSE: QuantizationMethod {
  /// Its name.
  package static let name = "omse"

  private static let gridCount = 100

  /// True when the range is symmetric around 0.
  package let isSymmetric: Bool
  /// The most rows of calibration that are looked at.
  package let rowCount: Int

  /// Takes `symmetric`, false unless given, and `rows`, 1024.
  package init(_ options: inout MethodOptions) throws {
    isSymmetric = try options.flag("symmetric", default: false)
    rowCount = try options.rowCount()
  }

  /// Rows.
  package var needs: Set<ObservationKind> { [.rows(count: rowCount)] }

  /// One static one.
  package func gives(_ scales: ActivationScales) -> Bool { scales == .tensor }

  /// `{symmetric, rows}`.
  package var record: JSONObject { ["symmetric": .bool(isSymmetric), "rows": .integer(rowCount)] }

  /// - Throws: `Refusal` with rule `statistics-missing`.
  package func plan(_ site: SiteContext) throws -> SitePlan {
    try site.plan(isSymmetric ? .symmetric : .asymmetric, range: search(site).range)
  }

  /// The range of a site, and the mean squared error of its quantizer.
  ///
  /// - Throws: `Refusal` with rule `statistics-missing`.
  package func search(_ site: SiteContext) throws -> (range: StaticRange, meanSquaredError: Double) {
    guard let rows = site.observed.rows, !rows.values.isEmpty else { throw site.missingStatistics }
    let values = SortedValues(rows.values)
    var best = (range: StaticRange(minimum: values.minimum, maximum: values.maximum), error: Double.infinity)
    for range in ranges(values, bits: site.request.activationBits) {
      let step = range.step(bits: site.request.activationBits, isSymmetric: isSymmetric)
      let codes = (isSymmetric ? 1 : 0)...((1 << site.request.activationBits) - 1)
      guard
        let error = values.squaredError(
          scale: step.scale, zeroPoint: step.zeroPoint, codes: codes, below: best.error)
      else { continue }
      best = (range, error)
    }
    return (best.range, best.error / Double(rows.values.count))
  }

  private func ranges(_ values: SortedValues, bits: Int) -> some Sequence<StaticRange> {
    let (low, high, count) = (values.minimum, values.maximum, OMSE.gridCount)
    let isOneSided = low >= 0 || high <= 0
    let largestCode = Float((1 << bits) - 1)
    let zeroPoints = isSymmetric || isOneSided ? 0...0 : 0...Int(largestCode)
    return (1...count).lazy.flatMap { step in
      zeroPoints.lazy.map { zeroPoint in
        if zeroPoints.count == 1 {
          let t = max(-low, high) / Float(count) * Float(step)
          return StaticRange(minimum: low >= 0 ? 0 : -t, maximum: high <= 0 ? 0 : t)
        }
        let width = (high - low) / Float(count) * Float(step)
        let below = Float(zeroPoint) * (width / largestCode)
        return StaticRange(minimum: max(-below, low), maximum: min(width - below, high))
      }
    }
  }
}

/// Values in ascending order, with sums of those before each: the error of any quantizer of them takes
/// a search for each of its codes.
private struct SortedValues {
  private let values: [Float]
  /// Σx and Σx² of the first values.
  private let sums, squares: [Double]

  var minimum: Float { values.first ?? 0 }
  var maximum: Float { values.last ?? 0 }

  init(_ values: [Float]) {
    self.values = values.sorted()
    var (sum, square) = (0.0, 0.0)
    var sums = [0.0]
    var squares = [0.0]
    sums.reserveCapacity(values.count + 1)
    squares.reserveCapacity(values.count + 1)
    for value in self.values {
      sum += Double(value)
      square += Double(value) * Double(value)
      sums.append(sum)
      squares.append(square)
    }
    self.sums = sums
    self.squares = squares
  }

  /// Values below `bound`.
  private func count(below bound: Double) -> Int {
    var (low, high) = (0, values.count)
    while low < high {
      let middle = (low + high) / 2
      if Double(values[middle]) < bound { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// Σ(x − value)² of a range of values.
  private func error(_ range: Range<Int>, from value: Double) -> Double {
    let (sum, square) = (
      sums[range.upperBound] - sums[range.lowerBound], squares[range.upperBound] - squares[range.lowerBound]
    )
    return max(square - 2 * value * sum + value * value * Double(range.count), 0)
  }

  /// Σ(x̂ − x)² of x̂ = scale · (clamp(round(x / scale) + zeroPoint, codes) − zeroPoint); nil where it is
  /// not below `limit`.
  func squaredError(scale: Float, zeroPoint: Int, codes: ClosedRange<Int>, below limit: Double) -> Double? {
    let scale = Double(scale)
    func value(_ code: Int) -> Double { scale * Double(code - zeroPoint) }
    // Values from here on have a code above `code`.
    func end(_ code: Int) -> Int { count(below: scale * (Double(code - zeroPoint) + 0.5)) }
    var start = end(codes.lowerBound)
    let last = end(codes.upperBound - 1)
    // What is clipped is in both ends: most quantizers are worse there alone.
    var error =
      error(0..<start, from: value(codes.lowerBound)) + error(last..<values.count, from: value(codes.upperBound))
    for code in codes.dropFirst().dropLast() {
      guard error < limit else { return nil }
      let end = end(code)
      error += self.error(start..<end, from: value(code))
      start = end
    }
    return error < limit ? error : nil
  }
}
