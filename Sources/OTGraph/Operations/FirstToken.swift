/// An operation that makes one row of all rows of a sequence, of as many channels.
protocol SequenceOperation: OperationBody {}

extension SequenceOperation {
  var kind: Operation.Kind { .firstToken }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.requireValue(inputs[0])
    return inputs[0]
  }

  func rows(_ inputs: [ValueRows], of node: String) throws -> ValueRows {
    try requireTokens(inputs)
    return .sequences
  }
}

/// The vector of each sequence's first token: BERT's pooler reads it.
struct FirstToken: SequenceOperation {
  var name: String { "first_token" }
}
