import OTJSON

/// A linear layer: `y = W x + b`.
package struct Linear: Sendable, Hashable {
  /// A linear's place in the model, which decides whether it may be quantized.
  package enum Role: String, Sendable, Hashable {
    /// Inside a transformer block.
    case block
    /// Output head, pooler, projections around the embeddings: its input is
    /// never a quantized activation.
    case head
    /// Scores of experts: always of floats, since a score that is a little off sends tokens elsewhere.
    case router
    /// A rotation of the residual stream, where it begins or ends: always of floats.
    case rotation
  }

  /// The weight, `[outFeatures, inFeatures]`.
  package let weight: SourceTensor
  /// The bias, `[outFeatures]`; nil where the checkpoint has none.
  package let bias: SourceTensor?
  /// Channels of the input.
  package let inFeatures: Int
  /// Channels of the output.
  package let outFeatures: Int
  /// The linear's place in the model.
  package let role: Role
  /// The expert of the router that the second input is: the linear has rows for the tokens alone that the router
  /// sends to it. nil: it has a row for each row of its input, which is its only one.
  package let expert: Int?

  /// A linear layer with the tensors `weight` and `bias`.
  package init(
    weight: SourceTensor, bias: SourceTensor?, inFeatures: Int, outFeatures: Int, role: Role, expert: Int? = nil
  ) {
    self.weight = weight
    self.bias = bias
    self.inFeatures = inFeatures
    self.outFeatures = outFeatures
    self.role = role
    self.expert = expert
  }

  /// The same linear with other parameters.
  func replacing(weight: SourceTensor, bias: SourceTensor?, inFeatures: Int? = nil) -> Linear {
    Linear(
      weight: weight, bias: bias, inFeatures: inFeatures ?? self.inFeatures, outFeatures: outFeatures, role: role,
      expert: expert)
  }
}

extension Linear: OperationBody {
  /// Readers that do not know experts refuse the second name.
  var name: String { expert == nil ? "linear" : "expert_linear" }
  var kind: Operation.Kind { .linear }
  var inputCount: Int { expert == nil ? 1 : 2 }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.requireSizes(inFeatures, outFeatures)
    try OperationFault.require(inputs[0] == inFeatures, "reads \(inputs[0]) channels, not \(inFeatures)")
    if let expert {
      try OperationFault.require((0..<inputs[1]).contains(expert), "there is no expert \(expert) of \(inputs[1])")
    }
    return outFeatures
  }

  func rows(_ inputs: [ValueRows], of node: String) throws -> ValueRows {
    guard let expert else { return try common(inputs) }
    guard inputs[0] == .tokens, case .routing(let router) = inputs[1] else {
      throw OperationFault("reads \(inputs[0]) and \(inputs[1]), not rows of tokens and a router")
    }
    return .expert(expert, of: router)
  }

  /// A shift of the input or of the value needs a bias.
  func parameters(input: ChannelTransform, output: ChannelTransform) -> [OperationParameter] {
    let weight = OperationParameter(
      role: .weight, tensor: weight, dimensions: [outFeatures, inFeatures], linear: self)
    guard bias != nil || input.shift != nil || output.shift != nil else { return [weight] }
    return [weight, OperationParameter(role: .bias, tensor: bias, dimensions: [outFeatures], linear: self)]
  }

  var canCarryTransform: Bool { true }
  var canReadTransform: Bool { true }
  var canReadRotation: Bool { true }

  func push(_ transform: PushedTransform, into node: Node, of graph: Graph) -> PushStep? {
    .parameters([weight, bias])
  }

  func write(to object: inout JSONObject) {
    object["weight"] = weight.json
    object["bias"] = bias.map(\.json)
    object["inFeatures"] = .integer(inFeatures)
    object["outFeatures"] = .integer(outFeatures)
    object["role"] = .string(role.rawValue)
    object["expert"] = expert.map { .integer($0) }
  }

  init(reader: GraphReader) throws {
    guard let role = Linear.Role(rawValue: try reader.string("role")) else {
      throw reader.refusal("the role is not block, head, router or rotation")
    }
    self.init(
      weight: try reader.tensor("weight"), bias: try reader.optionalTensor("bias"),
      inFeatures: try reader.integer("inFeatures"), outFeatures: try reader.integer("outFeatures"), role: role,
      expert: try reader.optionalInteger("expert"))
  }
}
