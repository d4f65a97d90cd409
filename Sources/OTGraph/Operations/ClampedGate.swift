import OTJSON

/// GPT-OSS's product of a gate and what it gates, both within limits: `(u + 1)·g·σ(slope·g)`, `g = min(gate, limit)`,
/// u the other within ±`limit`.
package struct ClampedGate: Sendable, Hashable {
  /// The most that a gate is, and the other in both directions; positive.
  package let limit: Float
  /// The factor of the gate in its sigmoid.
  package let slope: Float

  /// A product within `limit`.
  package init(limit: Float, slope: Float) { (self.limit, self.slope) = (limit, slope) }
}

extension ClampedGate: OperationBody {
  var name: String { "clamped_gate" }
  var kind: Operation.Kind { .gate }
  var inputCount: Int { 2 }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.requireValue(inputs[0])
    try OperationFault.require(inputs[0] == inputs[1], "joins \(inputs[0]) with \(inputs[1]) channels")
    try OperationFault.require(limit.isFinite && limit > 0 && slope.isFinite, "limits to \(limit), slope \(slope)")
    return inputs[0]
  }

  func write(to object: inout JSONObject) {
    object["limit"] = .number(limit.shortestDouble)
    object["slope"] = .number(slope.shortestDouble)
  }

  init(reader: GraphReader) throws {
    self.init(limit: Float(try reader.number("limit")), slope: Float(try reader.number("slope")))
  }
}
