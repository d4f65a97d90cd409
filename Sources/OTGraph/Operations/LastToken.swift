import OTJSON

/// The vector of each sequence's last token that is not padding: classifiers made of decoders read it.
package struct LastToken: Sendable, Hashable {
  /// The token that is passed over at the end; nil: none is.
  package let paddingToken: Int?

  /// The last token but for `paddingToken`.
  package init(paddingToken: Int?) { self.paddingToken = paddingToken }

  /// The index of the token among those of a sequence: 0 where all are padding.
  package func index(in tokenIDs: some Collection<Int>) -> Int {
    guard let paddingToken else { return max(tokenIDs.count - 1, 0) }
    return Array(tokenIDs).lastIndex { $0 != paddingToken } ?? 0
  }
}

extension LastToken: SequenceOperation {
  var name: String { "last_token" }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.requireValue(inputs[0])
    if let paddingToken { try OperationFault.require(paddingToken >= 0, "the padding token is \(paddingToken)") }
    return inputs[0]
  }

  func write(to object: inout JSONObject) { object["padding"] = paddingToken.map { .integer($0) } }

  init(reader: GraphReader) throws { self.init(paddingToken: try reader.optionalInteger("padding")) }
}
