import OTJSON

/// An element-wise function; raw values are those of the container.
package enum ActivationKind: String, Sendable, Hashable, CaseIterable {
  case relu
  /// `x·Φ(x)`, with the error function.
  case gelu
  /// GELU's approximation `x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))`.
  case geluTanh = "gelu_tanh"
  /// `x / (1 + exp(−x))`.
  case silu
  case tanh
}

extension ActivationKind: OperationBody {
  var name: String { "activation" }
  var kind: Operation.Kind { .activation }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.requireValue(inputs[0])
    return inputs[0]
  }

  /// ReLU alone is linear in positive factors.
  var canCarryTransform: Bool { self == .relu }
  var canReadTransform: Bool { self == .relu }

  func passedOn(_ inputs: [ChannelTransform], channelCount: Int) throws -> ChannelTransform? {
    guard self == .relu else { return nil }
    try OperationFault.require(!inputs[0].shifts, "cannot be shifted")
    return inputs[0]
  }

  func push(_ transform: PushedTransform, into node: Node, of graph: Graph) -> PushStep? {
    guard self == .relu, !transform.shifts else { return nil }
    return .input(node.inputs[0], readers: [node.name], channels: transform.channels)
  }

  func write(to object: inout JSONObject) { object["kind"] = .string(rawValue) }

  init(reader: GraphReader) throws {
    guard let kind = ActivationKind(rawValue: try reader.string("kind")) else {
      throw reader.refusal("the activation is not known")
    }
    self = kind
  }
}
