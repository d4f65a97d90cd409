import OTTensor

/// Each weight to the nearest quantized value: `clamp(round(w / scale) + zeroPoint)`, ties to even.
package struct NearestRounding: WeightRounding {
  /// A rounding to the nearest.
  package init() {}

  /// The name that files record.
  package var kind: RoundingKind { .nearest }

  /// Rounds each weight to the nearest value, ties to even.
  package func round(
    _ row: WeightRow, into values: UnsafeMutableBufferPointer<UInt8>, addingErrorTo error: inout ErrorStatistics
  ) {
    var start = 0
    for step in row.steps where start < row.weights.count {
      let group = start..<min(start + row.groupSize, row.weights.count)
      let loss = row.kernels.quantize(
        UnsafeBufferPointer(rebasing: row.weights[group]), scale: step.scale, zeroPoint: step.zeroPoint,
        codes: row.scheme.minimumCode...row.scheme.maximumCode,
        into: UnsafeMutableBufferPointer(rebasing: values[group]))
      error.squaredError += loss.squaredError
      error.squares += loss.squares
      error.maximumErrorInSteps = max(error.maximumErrorInSteps, loss.maximum / step.scale)
      error.count += group.count
      start = group.upperBound
    }
  }
}
