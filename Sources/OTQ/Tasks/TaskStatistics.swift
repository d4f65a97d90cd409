import Foundation

extension TaskFigure {
  /// A mean, and its standard error: the standard deviation of a sample (divisor n − 1) over √n; none of one value.
  static func mean(_ name: String, _ values: [Double], higherIsBetter: Bool = true) -> TaskFigure {
    TaskFigure(
      name, TaskStatistics.mean(values), standardError: TaskStatistics.standardErrorOfMean(values),
      higherIsBetter: higherIsBetter)
  }

  /// exp of a mean, less being better, and its standard error by the delta method: the value times that of the mean.
  static func exponentialOfMean(_ name: String, _ values: [Double]) -> TaskFigure {
    let value = exp(TaskStatistics.mean(values))
    return TaskFigure(
      name, value, standardError: TaskStatistics.standardErrorOfMean(values).map { $0 * value }, higherIsBetter: false)
  }
}

/// The formulas of figures, in float64.
enum TaskStatistics {
  static func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }

  /// √(Σ(x − x̄)² / (n − 1) / n); nil for fewer than two values.
  static func standardErrorOfMean(_ values: [Double]) -> Double? {
    guard values.count > 1 else { return nil }
    let (mean, count) = (mean(values), Double(values.count))
    let sum = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
    return (sum / (count - 1) / count).squareRoot()
  }
}
