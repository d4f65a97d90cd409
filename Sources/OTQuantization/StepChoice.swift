import OTKernels
import OTTensor

/// The step and the zero point of one row, group or tensor.
package struct StepChoice: Sendable, Equatable {
  /// Positive and normal; 1 where all weights are zero.
  package let scale: Float
  /// The quantized value that stands for 0.
  package let zeroPoint: Int

  /// Chooses for weights from `minimum` to `maximum`, in float32:
  /// - asymmetric: hi = max(maximum, 0), lo = min(minimum, 0),
  ///   scale = (hi − lo) / (2^b − 1), zero point = round(−lo / scale);
  /// - symmetric: scale = max|w| / (2^(b−1) − 1), zero point = 2^(b−1).
  ///
  /// Rounding is to nearest, ties to even. A scale is never below the smallest
  /// normal float. Nil when the range, or a weight restored from it, would not
  /// be finite.
  init?(minimum: Float, maximum: Float, scheme: QuantizationScheme) {
    let high = max(maximum, 0)
    let low = min(minimum, 0)
    if scheme.isSymmetric {
      let largestCode = Float(scheme.symmetricZeroPoint - 1)
      let magnitude = max(high, -low)
      scale = magnitude == 0 ? 1 : max(magnitude / largestCode, .leastNormalMagnitude)
      zeroPoint = scheme.symmetricZeroPoint
      guard (scale * largestCode).isFinite else { return nil }
    } else {
      let largestCode = Float(scheme.maximumCode)
      let width = high - low
      guard width.isFinite else { return nil }
      scale = width == 0 ? 1 : max(width / largestCode, .leastNormalMagnitude)
      // −lo ≤ hi − lo, so this is at most 2^b − 1 but for rounding.
      zeroPoint = Int(min((-low / scale).rounded(.toNearestOrEven), largestCode))
      guard (scale * Float(max(zeroPoint, scheme.maximumCode - zeroPoint))).isFinite else {
        return nil
      }
    }
  }
}
