/// The vector of each sequence's first token: BERT's pooler reads it.
struct FirstToken: OperationBody {
  var name: String { "first_token" }
  var kind: Operation.Kind { .firstToken }
  var needsTokens: Bool { true }
  var givesSequences: Bool { true }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.requireValue(inputs[0])
    return inputs[0]
  }
}
