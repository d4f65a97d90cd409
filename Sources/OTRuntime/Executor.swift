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

/// Runs a model on whole sequences; results do not depend on the number of threads.
public protocol Executor: Sendable {
  /// Sees the value of a node: its name, values `[rows, channels]`, rows, channels.
  typealias Observer = (String, UnsafeBufferPointer<Float>, Int, Int) throws -> Void

  /// The graph that is run.
  var graph: Graph { get }

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
  func run(
    tokenIDs: [Int], tokenTypeIDs: [Int]?, attentionMask: [Bool]?, observe: Observer?
  ) throws -> ExecutionResult
}

extension Executor {
  /// Runs the model on one sequence; what is left out is nil.
  ///
  /// - Throws: as the requirement.
  public func run(
    tokenIDs: [Int], tokenTypeIDs: [Int]? = nil, attentionMask: [Bool]? = nil,
    observe: Observer? = nil
  ) throws -> ExecutionResult {
    try run(
      tokenIDs: tokenIDs, tokenTypeIDs: tokenTypeIDs, attentionMask: attentionMask,
      observe: observe)
  }
}
