import OTJSON

/// The parameters of a LayerNorm or an RMSNorm.
package struct Norm: Sendable, Hashable {
  /// The gain, `[size]`, or `[groupSize]`, shared by all groups; nil stands for ones.
  package let gamma: SourceTensor?
  /// The offset, as the gain; nil stands for zeros.
  package let beta: SourceTensor?
  /// Added to the variance or the mean of squares; not negative.
  package let epsilon: Float
  /// Channels.
  package let size: Int
  /// Channels that are normalized together, one group after another: a head of
  /// Qwen3's queries; divides `size`. nil: all.
  package let groupSize: Int?

  /// A norm over `size` channels, or over each `groupSize` of them.
  package init(gamma: SourceTensor?, beta: SourceTensor?, epsilon: Float, size: Int, groupSize: Int? = nil) {
    self.gamma = gamma
    self.beta = beta
    self.epsilon = epsilon
    self.size = size
    self.groupSize = groupSize
  }

  /// Channels that are normalized together.
  package var normalizedSize: Int { groupSize ?? size }
}

extension Norm {
  init(reader: GraphReader) throws {
    self.init(
      gamma: try reader.optionalTensor("gamma"), beta: try reader.optionalTensor("beta"),
      epsilon: Float(try reader.number("epsilon")), size: try reader.integer("size"),
      groupSize: try reader.optionalSize("groupSize"))
  }
}

/// LayerNorm and RMSNorm differ in nothing but their names here.
struct NormBody: OperationBody {
  let name: String
  let norm: Norm

  var kind: Operation.Kind { .norm }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.requireSizes(norm.size, norm.normalizedSize)
    try OperationFault.require(inputs[0] == norm.size, "reads \(inputs[0]) channels, not \(norm.size)")
    try OperationFault.require(
      norm.size % norm.normalizedSize == 0, "\(norm.size) channels are no whole groups of \(norm.normalizedSize)")
    try OperationFault.require(norm.epsilon.isFinite && norm.epsilon >= 0, "epsilon is \(norm.epsilon)")
    return norm.size
  }

  /// A scale of the value needs a gain, a shift an offset.
  func parameters(input: ChannelTransform, output: ChannelTransform) -> [OperationParameter] {
    var parameters: [OperationParameter] = []
    if norm.gamma != nil || output.scale != nil {
      parameters.append(OperationParameter(role: .gamma, tensor: norm.gamma, dimensions: [norm.normalizedSize]))
    }
    if norm.beta != nil || output.shift != nil {
      parameters.append(OperationParameter(role: .beta, tensor: norm.beta, dimensions: [norm.normalizedSize]))
    }
    return parameters
  }

  /// A gain that all groups share cannot differ from channel to channel.
  var canCarryTransform: Bool { norm.groupSize == nil }

  func push(_ transform: PushedTransform, into node: Node, of graph: Graph) -> PushStep? {
    canCarryTransform ? .parameters([norm.gamma, norm.beta]) : nil
  }

  func write(to object: inout JSONObject) {
    object["gamma"] = norm.gamma.map(\.json)
    object["beta"] = norm.beta.map(\.json)
    object["epsilon"] = .number(norm.epsilon.shortestDouble)
    object["size"] = .integer(norm.size)
    object["groupSize"] = norm.groupSize.map { .integer($0) }
  }
}
