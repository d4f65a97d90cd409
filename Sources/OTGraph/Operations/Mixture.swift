import OTJSON

/// The sum of what a token's experts give, each times its weight, in the order of the experts.
///
/// Inputs: what the router gives, then the values of all experts.
package struct Mixture: Sendable, Hashable {
  /// Experts.
  package let expertCount: Int

  /// A sum over so many experts.
  package init(expertCount: Int) { self.expertCount = expertCount }
}

extension Mixture: OperationBody {
  var name: String { "mixture" }
  var kind: Operation.Kind { .routing }
  var inputCount: Int { expertCount.addingReportingOverflow(1).partialValue }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.requireSizes(expertCount)
    try OperationFault.require(inputs[0] == expertCount, "joins \(expertCount) experts of \(inputs[0])")
    let values = inputs.dropFirst()
    try values.forEach(OperationFault.requireValue)
    guard let size = values.first, values.allSatisfy({ $0 == size }) else {
      throw OperationFault("joins experts that differ in size")
    }
    return size
  }

  func rows(_ inputs: [ValueRows], of node: String) throws -> ValueRows {
    guard case .routing(let router) = inputs[0] else {
      throw OperationFault("reads \(inputs[0]) in the place of a router")
    }
    for (expert, rows) in inputs.dropFirst().enumerated() where rows != .expert(expert, of: router) {
      throw OperationFault("joins \(rows) in the place of expert \(expert) of '\(router)'")
    }
    return .tokens
  }

  func write(to object: inout JSONObject) { object["expertCount"] = .integer(expertCount) }

  init(reader: GraphReader) throws { self.init(expertCount: try reader.integer("expertCount")) }
}
