import Foundation
import OTGraph

extension Attention {
  /// Slopes of ALiBi, one per head, rounded from float64.
  ///
  /// For 2^n heads the powers 1…2^n of 2^(−8/2^n); for other counts those of
  /// the next lower power of 2, then odd powers of the series for the next
  /// higher one, as BLOOM's `build_alibi_tensor` does.
  static func alibiSlopes(headCount: Int) -> [Float] {
    var lower = 1
    while lower * 2 <= headCount { lower *= 2 }
    let base = exp2(-8 / Double(lower))
    let between = exp2(-4 / Double(lower))
    return (0..<headCount).map { head in
      head < lower
        ? Float(pow(base, Double(head + 1))) : Float(pow(between, Double(2 * (head - lower) + 1)))
    }
  }
}
