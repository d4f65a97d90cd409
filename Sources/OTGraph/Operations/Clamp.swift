import OTJSON

/// Each channel brought within ±bound: what OLMo and MPT do to queries, keys and values.
package struct Clamp: Sendable, Hashable {
  /// Positive and finite.
  package let bound: Float

  /// Values within ±`bound`.
  package init(bound: Float) { self.bound = bound }
}

extension Clamp: OperationBody {
  var name: String { "clamp" }
  var kind: Operation.Kind { .activation }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.requireValue(inputs[0])
    try OperationFault.require(bound.isFinite && bound > 0, "the bound is \(bound)")
    return inputs[0]
  }

  func write(to object: inout JSONObject) { object["bound"] = .number(bound.shortestDouble) }

  init(reader: GraphReader) throws { self.init(bound: Float(try reader.number("bound"))) }
}
