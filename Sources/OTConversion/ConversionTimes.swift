import OTQuantization

/// Seconds of a conversion by kind of work: the sums over all threads, which work
/// beside each other, so that together they are more than the time that passed.
package struct ConversionTimes: Sendable {
  /// Reading, transforming and quantizing.
  package var quantization = QuantizationTimes()
  /// Interleaving, compressing or packing, decoding again, comparing, checksums;
  /// and what is done to tensors that stay float.
  package var encode = Duration.zero
  /// Handing bytes to the system, and waiting for the disk at the end.
  package var write = Duration.zero
  /// SHA-256 of the sources.
  package var hash = Duration.zero

  /// Adds the times of a block.
  static func += (sum: inout ConversionTimes, times: ConversionTimes) {
    sum.quantization += times.quantization
    sum.encode += times.encode
    sum.write += times.write
    sum.hash += times.hash
  }

  /// Names and seconds, in the order of the pipeline.
  package var stages: [(name: String, seconds: Double)] {
    [
      ("read", quantization.read), ("transform", quantization.transform), ("quantize", quantization.quantize),
      ("encode", encode), ("write", write), ("hash", hash),
    ].map { ($0.0, $0.1 / .seconds(1)) }
  }
}

/// The result of `body`, its time added to `sum`.
func timed<Result>(_ sum: inout Duration, _ body: () throws -> Result) rethrows -> Result {
  let start = ContinuousClock.now
  defer { sum += start.duration(to: .now) }
  return try body()
}
