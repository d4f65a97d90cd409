import OTJSON
import OTPlatform

/// A bias of `slope(head)·(key position)` on the products of queries and keys (ALiBi, arXiv:2108.12409) with slopes of
/// its own.
package struct LinearBias: Sendable, Hashable {
  /// The slope of each head.
  package let slopes: [Float]
  /// The factor that the bias has where positions and products are rounded to bfloat16, which comes before it: what
  /// Falcon does. nil: nothing is rounded.
  package let roundedFactor: Float?

  /// A bias with a slope for each head.
  package init(slopes: [Float], roundedFactor: Float? = nil) {
    (self.slopes, self.roundedFactor) = (slopes, roundedFactor)
  }

  /// The bias of the key at `position`, in head `head`.
  package func bias(head: Int, position: Int) -> Float {
    guard let factor = roundedFactor else { return slopes[head] * Float(position) }
    return (slopes[head] * Float(position).roundedToBFloat16).roundedToBFloat16 * factor
  }
}

extension LinearBias {
  /// Slopes of ALiBi, one per head, rounded from float64.
  ///
  /// For 2^n heads the powers 1…2^n of 2^(−8/2^n); for other counts those of the next lower power of 2, then odd powers
  /// of the series for the next higher one, as BLOOM's `build_alibi_tensor` does.
  package static func slopes(headCount: Int) -> [Float] {
    var lower = 1
    while lower * 2 <= headCount { lower *= 2 }
    let base = exp2(-8 / Double(lower))
    let between = exp2(-4 / Double(lower))
    return (0..<headCount).map { head in
      head < lower
        ? Float(pow(base, Double(head + 1))) : Float(pow(between, Double(2 * (head - lower) + 1)))
    }
  }

  func validate(headCount: Int) throws {
    try OperationFault.require(slopes.count == headCount, "\(slopes.count) slopes are not those of \(headCount) heads")
    let numbers = slopes + [roundedFactor].compactMap { $0 }
    try OperationFault.require(numbers.allSatisfy { $0.isFinite && $0 >= 0 }, "a slope is negative or no number")
  }

  var json: JSONValue {
    var object: JSONObject = [
      "kind": .string("slopes"), "slopes": .array(slopes.map { .number($0.shortestDouble) }),
    ]
    object["roundedFactor"] = roundedFactor.map { .number($0.shortestDouble) }
    return .object(object)
  }

  init(reader: GraphReader) throws {
    self.init(
      slopes: try reader.numbers("slopes").map { Float($0) },
      roundedFactor: reader.has("roundedFactor") ? Float(try reader.number("roundedFactor")) : nil)
  }
}

extension Float {
  /// The nearest bfloat16, ties to even.
  package var roundedToBFloat16: Float {
    guard isFinite else { return self }
    let bits = bitPattern
    return Float(bitPattern: (bits &+ 0x7FFF &+ (bits >> 16 & 1)) & 0xFFFF_0000)
  }
}
