/// The product of a gate and what it gates, channel by channel.
struct Multiply: OperationBody {
  var name: String { "multiply" }
  var kind: Operation.Kind { .gate }
  var inputCount: Int { 2 }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.requireValue(inputs[0])
    try OperationFault.require(inputs[0] == inputs[1], "joins \(inputs[0]) with \(inputs[1]) channels")
    return inputs[0]
  }

  var canCarryTransform: Bool { true }
  var canReadTransform: Bool { true }

  func passedOn(_ inputs: [ChannelTransform], channelCount: Int) throws -> ChannelTransform? {
    try OperationFault.require(!inputs[0].shifts && !inputs[1].shifts, "cannot be shifted")
    return inputs[0].followed(by: inputs[1])
  }

  /// A scale goes to what is gated, not to the gate, which has an activation function before it.
  func push(_ transform: PushedTransform, into node: Node, of graph: Graph) -> PushStep? {
    guard !transform.shifts else { return nil }
    return .input(node.inputs[1], readers: [node.name], channels: transform.channels)
  }
}
