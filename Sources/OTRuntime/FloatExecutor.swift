import OTGraph
import OTTensor

/// What a model gives for one sequence.
public struct ExecutionResult: Sendable {
  /// The values by the graph's output names: `logits` `[tokens, vocabulary]`,
  /// `hidden` `[tokens, channels]`, `pooled` `[1, channels]`.
  public let outputs: [String: Matrix]

  /// The output called `name`.
  ///
  /// - Throws: `Refusal` with rule `run-output` where the model has none.
  public func output(_ name: String) throws -> Matrix {
    guard let output = outputs[name] else {
      let known = outputs.keys.sorted().joined(separator: ", ")
      throw Refusal("run-output", "the model gives no '\(name)', only \(known)")
    }
    return output
  }
}

/// Runs a graph in float32, whatever it says about quantized activations.
///
/// Parameters are fetched when the node that needs them runs, in blocks of
/// rows; unless they are cached, no more than one block per thread and the
/// values still needed are in memory. Results do not depend on the number of threads.
///
/// It does not keep keys and values between runs: every run is a whole sequence.
public struct FloatExecutor: Sendable {
  /// Sees the value of a node: its name, values `[rows, channels]`, rows, channels.
  public typealias Observer = (String, UnsafeBufferPointer<Float>, Int, Int) throws -> Void

  /// The graph that is run.
  public var graph: Graph { walk.graph }
  /// The most threads that work at a time.
  public let threadCount: Int

  let walk: GraphWalk
  let parameters: any ParameterSource

  /// An executor of `graph`.
  ///
  /// - Parameter cachesParameters: whether parameters are kept, in float32,
  ///   from one run to the next.
  /// - Throws: `Refusal` with rule `run-incomplete` or `run-size`.
  public init(
    graph: Graph, parameters: any ParameterSource, threadCount: Int, cachesParameters: Bool = false
  ) throws {
    walk = try GraphWalk(graph)
    self.parameters = cachesParameters ? ParameterCache(parameters) : parameters
    self.threadCount = max(1, threadCount)
  }

  /// Runs the model on one sequence.
  ///
  /// - Parameters:
  ///   - tokenIDs: the tokens; positions count from 0.
  ///   - tokenTypeIDs: the segment of each token; nil: all 0.
  ///   - attentionMask: whether each token may be attended to; nil: all may.
  ///   - observe: called with the value of each node, in execution order, IDs excepted.
  /// - Throws: `Refusal` for input that the model cannot read (`run-empty`,
  ///   `run-context`, `run-token-id`, `run-input-length`), for parameters that
  ///   cannot be read, and whatever `observe` throws.
  public func run(
    tokenIDs: [Int], tokenTypeIDs: [Int]? = nil, attentionMask: [Bool]? = nil,
    observe: Observer? = nil
  ) throws -> ExecutionResult {
    let input = try ModelInput(
      tokenIDs: tokenIDs, tokenTypeIDs: tokenTypeIDs, attentionMask: attentionMask, graph: graph)
    let outputs = try walk.run { node, inputs in
      let value = try evaluate(node, inputs, of: input)
      if let observe, case .matrix(let matrix) = value {
        try matrix.values.withUnsafeBufferPointer {
          try observe(node.name, $0, matrix.rowCount, matrix.channelCount)
        }
      }
      return value
    }
    return ExecutionResult(outputs: outputs)
  }
}
