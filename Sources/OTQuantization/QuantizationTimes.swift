/// Where the time of quantizing went; sums over threads.
public struct QuantizationTimes: Sendable {
  /// Reading rows and converting them to float32, page faults included.
  public var read = Duration.zero
  /// Transforming rows, and their products with shifts.
  public var transform = Duration.zero
  /// Choosing steps, rounding and interleaving.
  public var quantize = Duration.zero

  /// No time.
  public init() {}

  /// Adds the times of other blocks.
  public static func += (sum: inout QuantizationTimes, times: QuantizationTimes) {
    sum.read += times.read
    sum.transform += times.transform
    sum.quantize += times.quantize
  }
}
