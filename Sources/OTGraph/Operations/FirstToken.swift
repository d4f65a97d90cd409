/// An operation that makes one row of all rows of a sequence, of as many channels.
protocol SequenceOperation: OperationBody {}

extension SequenceOperation {
  var kind: Operation.Kind { .firstToken }
  var needsTokens: Bool { true }
  var givesSequences: Bool { true }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.requireValue(inputs[0])
    return inputs[0]
  }
}

/// The vector of each sequence's first token: BERT's pooler reads it.
struct FirstToken: SequenceOperation {
  var name: String { "first_token" }
}
