#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// The error of quantizing a weight.
///
/// Sums are float64. Merged in the order of the rows they are the same for any
/// number of threads, as long as the blocks are the same.
package struct ErrorStatistics: Sendable, Equatable {
  /// Σ(w − ŵ)² over the weights, each difference rounded to float32.
  package var squaredError: Double
  /// Σw².
  package var squares: Double
  /// Largest |w − ŵ| / scale: at most 1/2, but for the rounding of float32.
  package var maximumErrorInSteps: Float
  /// Weights counted.
  package var count: Int

  /// Those of no weights.
  package init() { self.init(squaredError: 0, squares: 0, maximumErrorInSteps: 0, count: 0) }

  /// Sums as given.
  package init(squaredError: Double, squares: Double, maximumErrorInSteps: Float, count: Int) {
    self.squaredError = squaredError
    self.squares = squares
    self.maximumErrorInSteps = maximumErrorInSteps
    self.count = count
  }

  /// Those of both sets of weights.
  package func merged(with other: ErrorStatistics) -> ErrorStatistics {
    ErrorStatistics(
      squaredError: squaredError + other.squaredError, squares: squares + other.squares,
      maximumErrorInSteps: max(maximumErrorInSteps, other.maximumErrorInSteps),
      count: count + other.count)
  }

  /// Signal to quantization noise, 10 · log₁₀(Σw² / Σ(w − ŵ)²); infinite when
  /// nothing was lost.
  package var sqnrDecibels: Double {
    squaredError == 0 ? .infinity : 10 * log10(squares / squaredError)
  }
}
