import OTJSON

/// The product of each channel and one constant: what Gemma does to embeddings and Granite to branches and logits.
package struct Scale: Sendable, Hashable {
  /// The constant; finite.
  package let factor: Float

  /// A product with `factor`.
  package init(factor: Float) { self.factor = factor }
}

extension Scale: OperationBody {
  var name: String { "scale" }
  var kind: Operation.Kind { .scale }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.requireValue(inputs[0])
    try OperationFault.require(factor.isFinite, "the factor is \(factor)")
    return inputs[0]
  }

  func write(to object: inout JSONObject) { object["factor"] = .number(factor.shortestDouble) }

  init(reader: GraphReader) throws { self.init(factor: Float(try reader.number("factor"))) }
}
