import OTPlatform

/// A logarithmic axis over whole decades.
package struct LogarithmicAxis: Sendable {
  /// The exponents of its marks.
  package let decades: ClosedRange<Int>

  /// An axis that holds the positive ones of `values`, but for what is outside of `limits`; at least one decade.
  package init(_ values: [Double], within limits: ClosedRange<Double> = 1e-6...1e6) {
    let values = values.filter { $0 > 0 && $0.isFinite }
    let least = max(values.min() ?? 0.01, limits.lowerBound)
    let most = min(max(values.max() ?? 1, least), limits.upperBound)
    let first = Int(log10(least).rounded(.down))
    decades = first...max(Int(log10(most).rounded(.up)), first + 1)
  }

  /// The place of a value from 0 to 1: what is not a number, or 0, stands at an end.
  package func place(of value: Double) -> Double {
    let exponent = value.isFinite && value > 0 ? log10(value) : value == 0 ? -.infinity : .infinity
    let share = (exponent - Double(decades.lowerBound)) / Double(decades.count - 1)
    return min(max(share, 0), 1)
  }

  /// Values with a line each; the minor ones lie between decades.
  package var lines: [(value: Double, isMinor: Bool)] {
    decades.flatMap { decade in
      let value = pow(10, Double(decade))
      let minor = decade < decades.upperBound ? (2...9).map { (value * Double($0), true) } : []
      return [(value, false)] + minor
    }
  }
}
