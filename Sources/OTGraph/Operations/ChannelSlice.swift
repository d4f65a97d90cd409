import OTJSON

/// One part of a fused projection whose parts alternate block by block.
///
/// Output channel `b·blockSize + d` is input channel
/// `(b·partCount + part)·blockSize + d`. BLOOM's blocks are heads: queries, keys
/// and values of a head stand side by side. With blocks of a whole part the slice
/// is contiguous: channels `part·blockSize ..< (part + 1)·blockSize`, as in GPT-2. A slice of several parts takes
/// `width` that follow each other, from `part` on: the queries that share keys and values in Falcon.
package struct ChannelSlice: Sendable, Hashable {
  /// The part, or the first of them: 0, 1, 2 for queries, keys, values.
  package let part: Int
  /// Parts in the fused value.
  package let partCount: Int
  /// Channels of one block; 0 where it is unknown (see `Graph.missing`).
  package let blockSize: Int
  /// Parts that are taken.
  package let width: Int

  /// Part `part` of `partCount`, or so many from it on.
  package init(part: Int, partCount: Int, blockSize: Int, width: Int = 1) {
    self.width = width
    self.part = part
    self.partCount = partCount
    self.blockSize = blockSize
  }

  /// The input channel that becomes output channel `channel`.
  ///
  /// - Precondition: `blockSize` is known.
  package func inputChannel(of channel: Int) -> Int {
    let run = width * blockSize
    return (channel / run * partCount + part) * blockSize + channel % run
  }
}

extension ChannelSlice: OperationBody {
  /// Readers that do not know slices of several parts refuse the second name.
  var name: String { width == 1 ? "head_slice" : "heads_slice" }
  var kind: Operation.Kind { .slice }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.requireValue(inputs[0])
    try OperationFault.requireSizes(partCount)
    try OperationFault.requireSizes(width)
    let exists = part >= 0 && width <= partCount && part <= partCount - width
    try OperationFault.require(exists, "part \(part) does not exist")
    if blockSize == 0 && !isComplete {
      try OperationFault.require(inputs[0] % partCount == 0, "the parts are not equally large")
    } else {
      try OperationFault.requireSizes(blockSize)
      try OperationFault.require(inputs[0] % (partCount * blockSize) == 0, "the heads do not fill the input")
    }
    return inputs[0] / partCount * width
  }

  var canCarryTransform: Bool { true }
  var canReadTransform: Bool { true }

  func passedOn(_ inputs: [ChannelTransform], channelCount: Int) throws -> ChannelTransform? {
    guard blockSize > 0 else { return nil }
    return inputs[0].gathered((0..<channelCount).map(inputChannel(of:)))
  }

  /// The other parts' entries are the identity, so that their readers see no change.
  func push(_ transform: PushedTransform, into node: Node, of graph: Graph) -> PushStep? {
    let input = node.inputs[0]
    guard blockSize > 0, let size = graph.channelCount(of: input), let readers = parts(of: input, in: graph) else {
      return nil
    }
    var channels = [Int?](repeating: nil, count: size)
    for channel in 0..<size / partCount * width {
      channels[inputChannel(of: channel)] = transform.channels.map { $0[channel] } ?? channel
    }
    return .input(input, readers: readers, channels: channels)
  }

  private var parts: Range<Int> { part..<part + width }

  /// The readers of a fused value when they are slices of different parts; nil otherwise.
  private func parts(of name: String, in graph: Graph) -> [String]? {
    let readers = graph.consumers(of: name)
    var parts = Set<Int>()
    for reader in readers {
      guard case .channelSlice(let slice)? = graph[reader]?.operation,
        (slice.partCount, slice.blockSize) == (partCount, blockSize), parts.isDisjoint(with: slice.parts)
      else { return nil }
      parts.formUnion(slice.parts)
    }
    return readers
  }

  func write(to object: inout JSONObject) {
    object["part"] = .integer(part)
    object["partCount"] = .integer(partCount)
    object["headSize"] = .integer(blockSize)
    if width > 1 { object["width"] = .integer(width) }
  }

  init(reader: GraphReader) throws {
    self.init(
      part: try reader.integer("part"), partCount: try reader.integer("partCount"),
      blockSize: try reader.integer("headSize"),
      width: try reader.string("operation") == "head_slice" ? 1 : reader.integer("width"))
  }
}
