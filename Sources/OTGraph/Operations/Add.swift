/// The sum of two values, channel by channel: a residual, or embeddings.
struct Add: OperationBody {
  var name: String { "add" }
  var kind: Operation.Kind { .sum }
  var inputCount: Int { 2 }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.requireValue(inputs[0])
    try OperationFault.require(inputs[0] == inputs[1], "joins \(inputs[0]) with \(inputs[1]) channels")
    return inputs[0]
  }
}
