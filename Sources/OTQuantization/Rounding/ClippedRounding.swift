import OTJSON
import OTObservation
import OTTensor

/// Each weight to the nearest quantized value of a range that a search made narrower: the clipping of AWQ's
/// program (`ClipSearch`).
package struct ClippedRounding: RoundingRule {
  /// Its name.
  package static let name = "clip"

  /// The rule has no options.
  package init(_ options: inout MethodOptions) {}

  /// The rule.
  package init() {}

  /// Second moments.
  package var needs: Set<ObservationKind> { [.moments] }
  /// The name that files record.
  package var kind: RoundingKind { .clipped }
  /// Nothing.
  package var record: JSONObject { [:] }

  /// - Throws: as `ClipSearch`.
  package func fitted(to observed: consuming SiteObservations) throws -> any WeightRounding {
    FittedClipping(search: try ClipSearch(observed))
  }

  /// The moments in float32.
  package func fittedByteCount(channelCount: Int) -> Int {
    channelCount.multipliedChecked(by: channelCount)?.multipliedChecked(by: MemoryLayout<Float>.stride) ?? .max
  }
}

/// Nearest rounding in the ranges of a search.
struct FittedClipping: WeightRounding {
  let search: ClipSearch

  func limits(_ weights: WeightRows) -> [Float]? { search.limits(weights) }

  var unclipped: any WeightRounding { NearestRounding() }

  func round(
    _ block: WeightBlock, into values: UnsafeMutableBufferPointer<UInt8>, addingErrorTo error: inout ErrorStatistics
  ) {
    NearestRounding().round(block, into: values, addingErrorTo: &error)
  }
}
