import OTJSON

/// Positions of RoBERTa and its kin: tokens for padding take none, and the others are counted.
///
/// The ID of a token is the number of tokens before it that are not padding; that of a token for padding
/// is −1. An embedding with a row offset has a row for each.
package struct CountedPositions: Sendable, Hashable {
  /// The token that is not counted, wherever it stands.
  package let paddingToken: Int

  /// Positions of all tokens but `paddingToken`.
  package init(paddingToken: Int) { self.paddingToken = paddingToken }

  /// The IDs of a whole sequence of tokens.
  package func ids(of tokenIDs: some Sequence<Int>) -> [Int] {
    var count = 0
    return tokenIDs.map { token in
      guard token != paddingToken else { return -1 }
      defer { count += 1 }
      return count
    }
  }
}

extension CountedPositions: OperationBody {
  var name: String { "counted_position_ids" }
  var kind: Operation.Kind { .input }
  var inputCount: Int { 0 }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.require(paddingToken >= 0, "the padding token is \(paddingToken)")
    return 0
  }

  func write(to object: inout JSONObject) { object["padding"] = .integer(paddingToken) }

  init(reader: GraphReader) throws { self.init(paddingToken: try reader.integer("padding")) }
}
