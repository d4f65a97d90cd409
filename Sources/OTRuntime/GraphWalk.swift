import OTGraph
import OTTensor

/// The value of a node: IDs, or one vector per token.
enum Value: Sendable {
  case ids([Int])
  case matrix(Matrix)

  var matrix: Matrix {
    guard case .matrix(let matrix) = self else {
      // GraphValidation tells values from IDs.
      preconditionFailure("a node that needs values reads IDs")
    }
    return matrix
  }

  var ids: [Int] {
    guard case .ids(let ids) = self else { preconditionFailure("an embedding reads values") }
    return ids
  }
}

/// One sequence as a model reads it; checked against the graph.
struct ModelInput: Sendable {
  let tokenIDs: [Int]
  let tokenTypeIDs: [Int]
  let attentionMask: [Bool]?

  /// - Throws: `Refusal` with rule `run-empty`, `run-context`, `run-token-id`
  ///   or `run-input-length`.
  init(
    tokenIDs: [Int], tokenTypeIDs: [Int]?, attentionMask: [Bool]?, graph: Graph
  ) throws {
    guard !tokenIDs.isEmpty else { throw Refusal("run-empty", "there are no tokens to run") }
    // The BLAS counts in 32 bits.
    let longest = min(graph.contextLength ?? Int(Int32.max), Int(Int32.max))
    guard tokenIDs.count <= longest else {
      throw Refusal(
        "run-context", "\(tokenIDs.count) tokens are more than the model's \(longest)",
        remedy: "give a shorter text or cut it into pieces")
    }
    if let size = graph.vocabularySize,
      let index = tokenIDs.firstIndex(where: { !(0..<size).contains($0) })
    {
      throw Refusal(
        "run-token-id", "token \(index) is \(tokenIDs[index]), the vocabulary has 0...\(size - 1)",
        remedy: "use the tokenizer that belongs to the model")
    }
    for (count, what) in [
      (tokenTypeIDs?.count, "token types"), (attentionMask?.count, "mask entries"),
    ] {
      if let count, count != tokenIDs.count {
        throw Refusal("run-input-length", "\(count) \(what) for \(tokenIDs.count) tokens")
      }
    }
    self.tokenIDs = tokenIDs
    self.tokenTypeIDs = tokenTypeIDs ?? [Int](repeating: 0, count: tokenIDs.count)
    self.attentionMask = attentionMask
  }
}

/// The order in which a graph is executed and the last use of every value.
struct GraphWalk: Sendable {
  let graph: Graph
  /// For each node, the values that nobody reads after it.
  private let expiring: [[String]]

  /// - Throws: `Refusal` with rule `run-incomplete` where the graph lacks
  ///   facts, `run-size` where a dimension does not fit in 32 bits.
  init(_ graph: Graph) throws {
    guard graph.missing.isEmpty else {
      throw Refusal(
        "run-incomplete",
        "the model cannot be run, for lack of \(graph.missing.joined(separator: ", "))",
        remedy: "put the model's config.json beside the checkpoint")
    }
    var lastReader: [String: Int] = [:]
    for (index, node) in graph.nodes.enumerated() {
      guard (graph.channelCount(of: node.name) ?? 0) <= Int(Int32.max) else {
        throw Refusal("run-size", "'\(node.name)' has too many channels to be run")
      }
      lastReader[node.name] = index
      for input in node.inputs { lastReader[input] = index }
    }
    for output in graph.outputs.values { lastReader[output] = nil }
    var expiring = [[String]](repeating: [], count: graph.nodes.count)
    for (name, index) in lastReader { expiring[index].append(name) }
    self.graph = graph
    self.expiring = expiring
  }

  /// Calls `evaluate` for every node with the values of its inputs and gives
  /// the model's outputs back; a value is freed after its last use.
  func run(_ evaluate: (Node, [Value]) throws -> Value) rethrows -> [String: Matrix] {
    var values: [String: Value] = [:]
    for (index, node) in graph.nodes.enumerated() {
      values[node.name] = try evaluate(node, node.inputs.compactMap { values[$0] })
      for name in expiring[index] { values[name] = nil }
    }
    return graph.outputs.compactMapValues { values[$0]?.matrix }
  }
}
