import OTJSON

/// `c·tanh(x / c)` of each channel, which keeps it within ±c: what Gemma 2 does to logits.
package struct SoftCap: Sendable, Hashable {
  /// c; positive and finite.
  package let cap: Float

  /// A bend towards ±`cap`.
  package init(cap: Float) { self.cap = cap }
}

extension SoftCap: OperationBody {
  var name: String { "soft_cap" }
  var kind: Operation.Kind { .activation }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.requireValue(inputs[0])
    try OperationFault.require(cap.isFinite && cap > 0, "the cap is \(cap)")
    return inputs[0]
  }

  func write(to object: inout JSONObject) { object["cap"] = .number(cap.shortestDouble) }

  init(reader: GraphReader) throws { self.init(cap: Float(try reader.number("cap"))) }
}
