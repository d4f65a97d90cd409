import OTJSON
import OTObservation
import OTTensor

/// Each weight to the nearest quantized value: `clamp(round(w / scale) + zeroPoint)`, ties to even.
package struct NearestRounding: RoundingRule, WeightRounding {
  /// Its name.
  package static let name = "nearest"

  /// The rule has no options.
  package init(_ options: inout MethodOptions) {}

  /// The rule.
  package init() {}

  /// Nothing.
  package var needs: Set<ObservationKind> { [] }
  /// The name that files record.
  package var kind: RoundingKind { .nearest }
  /// Nothing.
  package var record: JSONObject { [:] }

  /// Itself, for any site.
  package func fitted(to observed: consuming SiteObservations) -> any WeightRounding { self }
  /// None.
  package func fittedByteCount(channelCount: Int) -> Int { 0 }

  /// Rounds each weight to the nearest value, ties to even.
  package func round(
    _ block: WeightBlock, into values: UnsafeMutableBufferPointer<UInt8>, addingErrorTo error: inout ErrorStatistics
  ) {
    for row in 0..<block.rowCount {
      for first in stride(from: 0, to: block.columnCount, by: block.groupSize) {
        let step = block.step(row: row, column: first)
        let start = row * block.columnCount + first
        let group = start..<start + min(block.groupSize, block.columnCount - first)
        let loss = block.kernels.quantize(
          UnsafeBufferPointer(rebasing: block.weights[group]), scale: step.scale, zeroPoint: step.zeroPoint,
          codes: block.scheme.minimumCode...block.scheme.maximumCode,
          into: UnsafeMutableBufferPointer(rebasing: values[group]))
        error.squaredError += loss.squaredError
        error.squares += loss.squares
        error.maximumErrorInSteps = max(error.maximumErrorInSteps, loss.maximum / step.scale)
        error.count += group.count
      }
    }
  }
}
