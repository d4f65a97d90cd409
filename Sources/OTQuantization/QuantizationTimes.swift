/// Seconds of quantizing by kind of work; sums over threads.
package struct QuantizationTimes: Sendable {
  /// Reading rows and converting them to float32, page faults included.
  package var read = Duration.zero
  /// Transforming rows, and their products with shifts.
  package var transform = Duration.zero
  /// Choosing steps and rounding.
  package var quantize = Duration.zero

  /// No time.
  package init() {}

  /// Adds the times of other blocks.
  package static func += (sum: inout QuantizationTimes, times: QuantizationTimes) {
    sum.read += times.read
    sum.transform += times.transform
    sum.quantize += times.quantize
  }
}
