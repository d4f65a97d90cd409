/// The node that migration puts on an edge where a transform cannot go up.
struct Affine: OperationBody {
  var name: String { "affine" }
  var kind: Operation.Kind { .edge }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.requireValue(inputs[0])
    return inputs[0]
  }

  func parameters(input: ChannelTransform, output: ChannelTransform) -> [OperationParameter] {
    [(ParameterUse.Role.shift, output.shift), (.scale, output.scale)].compactMap { role, vector in
      vector.map { OperationParameter(role: role, tensor: nil, dimensions: [$0.count]) }
    }
  }

  var canCarryTransform: Bool { true }
  var canReadTransform: Bool { true }

  func push(_ transform: PushedTransform, into node: Node, of graph: Graph) -> PushStep? { .parameters([]) }
}
