import OTJSON

/// The choice of experts: of the scores of each token the weights of its experts, 0 for all others.
///
/// Chosen are the experts with the greatest scores, of equal ones the first. Linears with an `expert` read what
/// it gives beside the value that they multiply, and a `Mixture` joins what experts give. An expert whose weight
/// comes out as 0 counts as not chosen.
///
/// With `choiceBias` or `groups` they are chosen by ranks: the function's values, of softmax over all experts, plus the
/// bias (DeepSeek-V3, arXiv:2412.19437, equation 16).
package struct Routing: Sendable, Hashable {
  /// The function of scores that gives weights; raw values are those of the container.
  package enum Function: String, Sendable, Hashable {
    /// `exp(score) / Σ exp(score)` over all experts.
    case softmax
    /// `1 / (1 + exp(−score))`.
    case sigmoid
  }

  /// Experts.
  package let expertCount: Int
  /// Experts of a token.
  package let chosenCount: Int
  /// The function of scores that gives weights.
  package let function: Function
  /// True when the weights of a token are divided by their sum.
  package let isNormalized: Bool
  /// Added to the function's values for the choice alone, `[expertCount]`; nil: nothing is.
  package let choiceBias: SourceTensor?
  /// The groups to which experts are restricted; nil: they are not.
  package let groups: Groups?
  /// The factor of the weights in the end.
  package let factor: Float

  /// Groups of experts that follow each other, equally many in each: a token's are of the groups with the greatest
  /// ranks, of equal ones the first.
  package struct Groups: Sendable, Hashable {
    /// Groups; divides the count of experts.
    package let count: Int
    /// Groups of a token.
    package let chosenCount: Int
    /// The rank of a group is the sum of so many of its experts' greatest ranks.
    package let rankedCount: Int

    /// A choice of `chosenCount` of `count` groups.
    package init(count: Int, chosenCount: Int, rankedCount: Int) {
      (self.count, self.chosenCount, self.rankedCount) = (count, chosenCount, rankedCount)
    }
  }

  /// A choice of `chosenCount` of `expertCount` experts.
  package init(
    expertCount: Int, chosenCount: Int, function: Function = .softmax, isNormalized: Bool,
    choiceBias: SourceTensor? = nil, groups: Groups? = nil, factor: Float = 1
  ) {
    self.expertCount = expertCount
    self.chosenCount = chosenCount
    self.function = function
    self.isNormalized = isNormalized
    self.choiceBias = choiceBias
    self.groups = groups
    self.factor = factor
  }

  /// The same with another bias of the choice.
  func replacing(choiceBias: SourceTensor?) -> Routing {
    Routing(
      expertCount: expertCount, chosenCount: chosenCount, function: function, isNormalized: isNormalized,
      choiceBias: choiceBias, groups: groups, factor: factor)
  }
}

extension Routing: OperationBody {
  /// Readers that do not know the last three members refuse the second name.
  var name: String { choiceBias == nil && groups == nil && factor == 1 ? "routing" : "group_routing" }
  var kind: Operation.Kind { .routing }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.requireSizes(expertCount, chosenCount)
    try OperationFault.require(inputs[0] == expertCount, "reads \(inputs[0]) scores, not \(expertCount)")
    try OperationFault.require(chosenCount <= expertCount, "chooses \(chosenCount) of \(expertCount) experts")
    try OperationFault.require(factor.isFinite && factor > 0, "the factor is \(factor)")
    if let groups {
      try OperationFault.requireSizes(groups.count, groups.chosenCount, groups.rankedCount)
      try OperationFault.require(
        expertCount % groups.count == 0, "\(expertCount) experts are not \(groups.count) equal groups")
      let size = expertCount / groups.count
      try OperationFault.require(
        groups.chosenCount <= groups.count && groups.rankedCount <= size,
        "chooses \(groups.chosenCount) of \(groups.count) groups by \(groups.rankedCount) of \(size) experts")
      try OperationFault.require(
        chosenCount <= groups.chosenCount * size,
        "chooses \(chosenCount) experts of \(groups.chosenCount) groups of \(size)")
    }
    return expertCount
  }

  func rows(_ inputs: [ValueRows], of node: String) throws -> ValueRows {
    try requireTokens(inputs)
    return .routing(node)
  }

  func parameters(input: ChannelTransform, output: ChannelTransform) -> [OperationParameter] {
    choiceBias.map { [OperationParameter(role: .choiceBias, tensor: $0, dimensions: [expertCount])] } ?? []
  }

  func write(to object: inout JSONObject) {
    object["expertCount"] = .integer(expertCount)
    object["chosenCount"] = .integer(chosenCount)
    object["function"] = .string(function.rawValue)
    object["isNormalized"] = .bool(isNormalized)
    object["choiceBias"] = choiceBias.map(\.json)
    if let groups {
      object["groupCount"] = .integer(groups.count)
      object["chosenGroupCount"] = .integer(groups.chosenCount)
      object["rankedCount"] = .integer(groups.rankedCount)
    }
    if factor != 1 { object["factor"] = .number(factor.shortestDouble) }
  }

  init(reader: GraphReader) throws {
    guard let function = Function(rawValue: try reader.string("function")) else {
      throw reader.refusal("the function of scores is not known")
    }
    self.init(
      expertCount: try reader.integer("expertCount"), chosenCount: try reader.integer("chosenCount"),
      function: function, isNormalized: try reader.flag("isNormalized"),
      choiceBias: try reader.optionalTensor("choiceBias"),
      groups: try reader.has("groupCount")
        ? Groups(
          count: reader.integer("groupCount"), chosenCount: reader.integer("chosenGroupCount"),
          rankedCount: reader.integer("rankedCount")) : nil,
      factor: try reader.has("factor") ? Float(reader.number("factor")) : 1)
  }
}
