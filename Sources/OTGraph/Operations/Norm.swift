import OTJSON

/// The parameters of a LayerNorm or an RMSNorm.
package struct Norm: Sendable, Hashable {
  /// The gain, `[size]`, or `[groupSize]`, shared by all groups, or `[groups, groupSize]`; nil stands for ones.
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
  /// True when each group has a gain and an offset of its own.
  package let hasOwnGains: Bool
  /// The gain of each group, where each is a tensor of its own; else none, and `gamma` has them.
  package let groupGains: [SourceTensor]

  /// A norm over `size` channels, or over each `groupSize` of them.
  package init(
    gamma: SourceTensor?, beta: SourceTensor?, epsilon: Float, size: Int, groupSize: Int? = nil,
    hasOwnGains: Bool = false, groupGains: [SourceTensor] = []
  ) {
    self.hasOwnGains = hasOwnGains
    self.groupGains = groupGains
    self.gamma = gamma
    self.beta = beta
    self.epsilon = epsilon
    self.size = size
    self.groupSize = groupSize
  }

  /// Channels that are normalized together.
  package var normalizedSize: Int { groupSize ?? size }

  /// Dimensions of gain and offset.
  fileprivate var parameterDimensions: [Int] {
    hasOwnGains ? [size / max(normalizedSize, 1), normalizedSize] : [normalizedSize]
  }
}

extension Norm {
  init(reader: GraphReader) throws {
    self.init(
      gamma: try reader.optionalTensor("gamma"), beta: try reader.optionalTensor("beta"),
      epsilon: Float(try reader.number("epsilon")), size: try reader.integer("size"),
      groupSize: try reader.optionalSize("groupSize"),
      hasOwnGains: try reader.string("operation").hasPrefix(NormBody.ownGains),
      groupGains: try reader.tensors("gammas"))
  }
}

/// LayerNorm and RMSNorm differ in nothing but their names here.
struct NormBody: OperationBody {
  private let plainName: String
  private let norm: Norm

  init(name: String, norm: Norm) { (plainName, self.norm) = (name, norm) }

  /// The beginning of the names of norms with gains for each head: readers that do not know these refuse the name.
  static let ownGains = "head_"

  var name: String { norm.hasOwnGains ? NormBody.ownGains + plainName : plainName }
  var kind: Operation.Kind { .norm }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.requireSizes(norm.size, norm.normalizedSize)
    try OperationFault.require(inputs[0] == norm.size, "reads \(inputs[0]) channels, not \(norm.size)")
    try OperationFault.require(
      norm.size % norm.normalizedSize == 0, "\(norm.size) channels are no whole groups of \(norm.normalizedSize)")
    try OperationFault.require(!norm.hasOwnGains || norm.groupSize != nil, "has gains of groups, but no groups")
    let count = norm.groupGains.count
    try OperationFault.require(
      count == 0 || (norm.hasOwnGains && norm.gamma == nil && count * norm.normalizedSize == norm.size),
      "has \(count) gains of groups")
    try OperationFault.require(norm.epsilon.isFinite && norm.epsilon >= 0, "epsilon is \(norm.epsilon)")
    return norm.size
  }

  /// A scale of the value needs a gain, a shift an offset.
  func parameters(input: ChannelTransform, output: ChannelTransform) -> [OperationParameter] {
    var parameters = norm.groupGains.map {
      OperationParameter(role: .gamma, tensor: $0, dimensions: [norm.normalizedSize])
    }
    if norm.gamma != nil || output.scale != nil {
      parameters.append(OperationParameter(role: .gamma, tensor: norm.gamma, dimensions: norm.parameterDimensions))
    }
    if norm.beta != nil || output.shift != nil {
      parameters.append(OperationParameter(role: .beta, tensor: norm.beta, dimensions: norm.parameterDimensions))
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
    if !norm.groupGains.isEmpty { object["gammas"] = .array(norm.groupGains.map(\.json)) }
    object["beta"] = norm.beta.map(\.json)
    object["epsilon"] = .number(norm.epsilon.shortestDouble)
    object["size"] = .integer(norm.size)
    object["groupSize"] = norm.groupSize.map { .integer($0) }
  }
}
