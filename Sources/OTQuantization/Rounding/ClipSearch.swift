import OTFoundation
import OTKernels
import OTObservation
import OTRuntime
import OTTensor

/// The search of AWQ's program for the range of each row or group of weights, so that its step is finer and
/// the few weights beyond it are clipped.
///
/// With m the largest |w| of a group, of c = m·(1 − i/20), i = 0 … 9, the first is taken with the least
/// Σ_x (Σ_j (w_j − ŵ_j) x_j)² = (w − ŵ) H (w − ŵ)ᵀ over the group's columns: ŵ the weights rounded to nearest in the
/// range of those within ±c, H = Σ x xᵀ over the rows that were observed.
package struct ClipSearch: Sendable {
  private static let pointCount = 10
  private static let gridSize: Float = 20

  private let columnCount: Int
  /// Σ x xᵀ, `[column, column]`.
  private let products: [Float]

  /// The search for weights that read a site with these moments.
  ///
  /// - Throws: `Refusal` with rule `rounding-moments` where there are no moments, or they are not finite, or as
  ///   `BLAS.load`.
  package init(_ observed: SiteObservations) throws {
    try BLAS.load(threadCount: 1)
    guard let moments = observed.moments else {
      throw Refusal("rounding-moments", "a search for clips needs the second moments of what a weight multiplies")
    }
    columnCount = moments.channelCount
    // Relative to the largest, so that none is beyond float32.
    let largest = moments.products.reduce(0) { max($0, abs($1)) }
    guard largest.isFinite else { throw Refusal("rounding-moments", "the second moments of a site are not finite") }
    products = moments.products.map { Float(largest > 0 ? $0 / largest : 0) }
  }

  /// c of each group of each row, `[row, group]`; nil where one step is for the whole weight.
  package func limits(_ weights: WeightRows) -> [Float]? {
    guard weights.scheme.granularity != .perTensor else { return nil }
    precondition(weights.columnCount == columnCount)
    let size = weights.scheme.groupSize(columnCount: columnCount)
    let groupCount = weights.scheme.groupCount(columnCount: columnCount)
    var limits = [Float](repeating: 0, count: weights.rowCount * groupCount)
    for group in 0..<groupCount {
      let columns = group * size..<min((group + 1) * size, columnCount)
      for (row, limit) in search(weights, columns).enumerated() { limits[row * groupCount + group] = limit }
    }
    return limits
  }

  /// c of each row for some columns.
  private func search(_ weights: WeightRows, _ columns: Range<Int>) -> [Float] {
    let (rowCount, size) = (weights.rowCount, columns.count)
    let groups = (0..<rowCount).map { row in
      UnsafeBufferPointer(
        rebasing: weights.values[row * columnCount + columns.lowerBound..<row * columnCount + columns.upperBound])
    }
    let ranges = groups.map { weights.kernels.range($0) }
    let maxima = ranges.map { max(-$0.minimum, $0.maximum, 0) }
    var best = [(limit: Float, error: Double)](repeating: (0, .infinity), count: rowCount)
    var codes = [UInt8](repeating: 0, count: size)
    withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * rowCount * size) { scratch in
      guard let errors = scratch.baseAddress else { return }
      let products = errors + rowCount * size
      for point in 0..<ClipSearch.pointCount {
        for row in 0..<rowCount {
          let limit = maxima[row] * (1 - Float(point) / ClipSearch.gridSize)
          let target = errors + row * size
          guard
            let step = StepChoice(
              minimum: max(ranges[row].minimum, -limit), maximum: min(ranges[row].maximum, limit),
              scheme: weights.scheme)
          else {
            target.update(repeating: 0, count: size)
            continue
          }
          codes.withUnsafeMutableBufferPointer {
            _ = weights.kernels.quantize(
              groups[row], scale: step.scale, zeroPoint: step.zeroPoint,
              codes: weights.scheme.minimumCode...weights.scheme.maximumCode, into: $0)
          }
          let zeroPoint = Int32(step.zeroPoint)
          for column in 0..<size {
            target[column] = groups[row][column] - step.scale * Float(Int32(codes[column]) - zeroPoint)
          }
        }
        self.products.withUnsafeBufferPointer { moments in
          guard let base = moments.baseAddress else { return }
          // H is symmetric.
          BLAS.multiplyTransposed(
            m: rowCount, n: size, k: size, BLAS.Operand(base: errors, stride: size),
            BLAS.Operand(base: base + columns.lowerBound * columnCount + columns.lowerBound, stride: columnCount),
            adds: false, into: products, stride: size)
        }
        for row in 0..<rowCount {
          var error = 0.0
          for index in row * size..<(row + 1) * size { error += Double(errors[index]) * Double(products[index]) }
          // A limit of 0 is none.
          if error < best[row].error { best[row] = (maxima[row] * (1 - Float(point) / ClipSearch.gridSize), error) }
        }
      }
    }
    return zip(best, maxima).map { $0.error.isFinite ? $0.limit : $1 }
  }
}

/// Some rows of a weight, transformed, before their steps are chosen.
package struct WeightRows {
  /// Rows.
  package let rowCount: Int
  /// Weights of a row.
  package let columnCount: Int
  /// The weights, `[row, column]`.
  package let values: UnsafeBufferPointer<Float>
  /// The scheme whose steps are chosen.
  package let scheme: QuantizationScheme
  /// Kernels that round.
  package let kernels: Kernels

  /// Rows of a weight.
  package init(
    rowCount: Int, columnCount: Int, values: UnsafeBufferPointer<Float>, scheme: QuantizationScheme, kernels: Kernels
  ) {
    self.rowCount = rowCount
    self.columnCount = columnCount
    self.values = values
    self.scheme = scheme
    self.kernels = kernels
  }
}
