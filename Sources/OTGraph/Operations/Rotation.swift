import OTJSON

/// The normalized Hadamard transform of each `blockSize` channels: `H/√n`, with
/// `H[i][j] = (−1)^popcount(i & j)`.
///
/// It is symmetric and its own inverse, and evens out channels of very different
/// ranges. Migration puts it on an edge; the weights behind it take its inverse.
package struct Rotation: Sendable, Hashable {
  /// Block sizes that there are kernels for: powers of 2.
  package static let blockSizes = [16, 32, 64, 128, 256, 512]

  /// Channels of a block; divides the channels of the value.
  package let blockSize: Int

  /// A rotation of blocks of so many channels.
  package init(blockSize: Int) { self.blockSize = blockSize }

  /// The rotation with the largest blocks that a value of `channelCount` channels has; nil
  /// where it has none.
  package init?(largestFor channelCount: Int) {
    guard let size = Rotation.blockSizes.last(where: { channelCount % $0 == 0 }) else { return nil }
    self.init(blockSize: size)
  }

  /// The obstacle to rotating a value of `channelCount` channels; nil where there is none.
  func fault(channelCount: Int) -> String? {
    if !Rotation.blockSizes.contains(blockSize) { return "blocks of \(blockSize) are no power of 2 from 16 to 512" }
    return channelCount % blockSize == 0 ? nil : "\(channelCount) channels are no multiple of \(blockSize)"
  }
}

extension Rotation: OperationBody {
  var name: String { "rotation" }
  var kind: Operation.Kind { .edge }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.requireValue(inputs[0])
    if let fault = fault(channelCount: inputs[0]) { throw OperationFault(fault) }
    return inputs[0]
  }

  /// The nodes behind it make up for the transform of the nodes before it.
  var canReadTransform: Bool { true }

  func write(to object: inout JSONObject) { object["blockSize"] = .integer(blockSize) }

  init(reader: GraphReader) throws { self.init(blockSize: try reader.integer("blockSize")) }
}
