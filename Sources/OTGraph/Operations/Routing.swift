import OTJSON

/// The choice of experts: of the scores of each token the weights of its experts, 0 for all others.
///
/// Chosen are the experts with the greatest scores, of equal ones the first. Linears with an `expert` read what
/// it gives beside the value that they multiply, and a `Mixture` joins what experts give. An expert whose weight
/// comes out as 0 counts as not chosen.
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

  /// A choice of `chosenCount` of `expertCount` experts.
  package init(expertCount: Int, chosenCount: Int, function: Function = .softmax, isNormalized: Bool) {
    self.expertCount = expertCount
    self.chosenCount = chosenCount
    self.function = function
    self.isNormalized = isNormalized
  }
}

extension Routing: OperationBody {
  var name: String { "routing" }
  var kind: Operation.Kind { .routing }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.requireSizes(expertCount, chosenCount)
    try OperationFault.require(inputs[0] == expertCount, "reads \(inputs[0]) scores, not \(expertCount)")
    try OperationFault.require(chosenCount <= expertCount, "chooses \(chosenCount) of \(expertCount) experts")
    return expertCount
  }

  func rows(_ inputs: [ValueRows], of node: String) throws -> ValueRows {
    try requireTokens(inputs)
    return .routing(node)
  }

  func write(to object: inout JSONObject) {
    object["expertCount"] = .integer(expertCount)
    object["chosenCount"] = .integer(chosenCount)
    object["function"] = .string(function.rawValue)
    object["isNormalized"] = .bool(isNormalized)
  }

  init(reader: GraphReader) throws {
    guard let function = Function(rawValue: try reader.string("function")) else {
      throw reader.refusal("the function of scores is not known")
    }
    self.init(
      expertCount: try reader.integer("expertCount"), chosenCount: try reader.integer("chosenCount"),
      function: function, isNormalized: try reader.flag("isNormalized"))
  }
}
