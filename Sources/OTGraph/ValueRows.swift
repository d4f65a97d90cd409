/// The rows of a value.
package enum ValueRows: Sendable, Hashable {
  /// One for each token.
  case tokens
  /// One for each sequence.
  case sequences
  /// One for each token, of what the router of this name gives: experts alone read it, and what joins them.
  case routing(String)
  /// One for each token that the router of this name sends to an expert, in the order of tokens.
  case expert(Int, of: String)

  /// True when the value has a row for each token.
  package var areTokens: Bool {
    switch self {
    case .tokens, .routing: true
    case .sequences, .expert: false
    }
  }
}

extension ValueRows: CustomStringConvertible {
  /// In words: `rows of tokens`.
  package var description: String {
    switch self {
    case .tokens: "rows of tokens"
    case .sequences: "rows of sequences"
    case .routing(let router): "the choice of '\(router)'"
    case .expert(let expert, let router): "rows of expert \(expert) of '\(router)'"
    }
  }
}

extension OperationBody {
  /// The rows of a value whose inputs have the same.
  ///
  /// - Throws: `OperationFault` where they have not, or a router gives one.
  func common(_ inputs: [ValueRows]) throws -> ValueRows {
    let rows = inputs.first ?? .tokens
    if let other = inputs.first(where: { $0 != rows }) { throw OperationFault("joins \(rows) with \(other)") }
    if case .routing = rows { throw OperationFault("reads \(rows), which is for experts") }
    return rows
  }

  /// Requires a row for each token.
  func requireTokens(_ inputs: [ValueRows]) throws {
    try OperationFault.require(inputs.allSatisfy { $0 == .tokens }, "needs a row for each token")
  }
}
