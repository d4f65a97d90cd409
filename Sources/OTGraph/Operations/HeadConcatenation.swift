import OTJSON

/// The heads of several values side by side: head h has the channels of head h of each input, in their order.
///
/// An input has `headCount` heads, or one, which is part of all: the rotated part of keys in multi-head latent
/// attention (DeepSeek-V2, arXiv:2405.04434).
package struct HeadConcatenation: Sendable, Hashable {
  /// Heads of the value.
  package let headCount: Int
  /// Channels of a head of each input.
  package let sizes: [Int]

  /// A concatenation of heads of `sizes` channels.
  package init(headCount: Int, sizes: [Int]) { (self.headCount, self.sizes) = (headCount, sizes) }
}

extension HeadConcatenation: OperationBody {
  var name: String { "head_concatenation" }
  var kind: Operation.Kind { .slice }
  var inputCount: Int { sizes.count }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.requireSizes(headCount)
    try OperationFault.require(!sizes.isEmpty, "joins no values")
    var width = 0
    for (input, size) in zip(inputs, sizes) {
      try OperationFault.requireValue(input)
      try OperationFault.requireSizes(size)
      try OperationFault.require(
        input == size || input == headCount * size, "\(input) channels are neither one head of \(size) nor \(headCount)"
      )
      width += size
    }
    // Sizes are bounded by those of inputs, which graphs bound.
    try OperationFault.requireSizes(width, headCount.multipliedReportingOverflow(by: width).partialValue)
    return headCount * width
  }

  func write(to object: inout JSONObject) {
    object["headCount"] = .integer(headCount)
    object["sizes"] = .array(sizes.map { .integer($0) })
  }

  init(reader: GraphReader) throws {
    self.init(headCount: try reader.integer("headCount"), sizes: try reader.integers("sizes"))
  }
}
