/// The mean over the tokens of each sequence that are not hidden.
struct MeanTokens: OperationBody {
  var name: String { "mean_tokens" }
  var kind: Operation.Kind { .firstToken }
  var needsTokens: Bool { true }
  var givesSequences: Bool { true }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.requireValue(inputs[0])
    return inputs[0]
  }
}
