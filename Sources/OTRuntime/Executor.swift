import OTFoundation
import OTGraph

/// The outputs of a model for one sequence.
package struct ExecutionResult: Sendable {
  /// The values by the graph's output names: `logits` `[tokens, vocabulary]`,
  /// `hidden` `[tokens, channels]`, `pooled` `[1, channels]`; of a part of the graph by node.
  package let outputs: [String: Matrix]

  /// The output called `name`.
  ///
  /// - Throws: `Refusal` with rule `run-output` where the model has none.
  package func output(_ name: String) throws -> Matrix {
    guard let output = outputs[name] else {
      let known = outputs.keys.sorted().joined(separator: ", ")
      throw Refusal("run-output", "the model gives no '\(name)', only \(known)")
    }
    return output
  }
}

/// The value of a node for all sequences of a batch, one after the other.
package struct NodeValue {
  /// The node.
  package let name: String
  /// `[rowCount, channelCount]`, row-major; there while the observer runs.
  package let values: UnsafeBufferPointer<Float>
  /// Rows: tokens of all sequences, or sequences.
  package let rowCount: Int
  /// Values in a row.
  package let channelCount: Int
  /// The tokens, counted through all sequences, whose rows these are; nil: all, or the rows are of sequences.
  package var tokens: [Int]?
}

/// Runs a model; results do not depend on the number of threads.
package protocol Executor: Sendable {
  /// Sees the value of a node.
  typealias Observer = (NodeValue) throws -> Void

  /// The graph that is run.
  var graph: Graph { get }

  /// The most threads that work at a time.
  var threadCount: Int { get }

  /// Tells what the stages of runs and sessions take.
  var stageTimer: StageTimer { get }

  /// Memory in bytes that values take for each token of a batch, for choosing how
  /// many sequences go into one; with an observer.
  var bytesPerToken: Int { get }

  /// The same of a part of the model.
  ///
  /// - Throws: `Refusal` with rule `graph-part`, or as parameters throw.
  func bytesPerToken(from given: Set<String>, until wanted: [String]) throws -> Int

  /// The program for a part of the model, or for all of it where nothing is
  /// given or wanted in particular.
  ///
  /// - Parameter fuses: as it is run for speed; otherwise, for observers.
  /// - Throws: as `bytesPerToken(from:until:)`.
  func listing(from given: Set<String>, until wanted: [String], fuses: Bool) throws -> ProgramListing

  /// Runs whole sequences as one batch: every parameter is read once for all of them.
  ///
  /// - Parameter observe: called with the value of each node for all sequences,
  ///   `[sum of their lengths, channels]`, one after the other in the order
  ///   given; nodes come in an order in which they can be executed, IDs excepted.
  /// - Returns: a result for each sequence.
  /// - Throws: `Refusal` for input that the model cannot read (`run-empty`,
  ///   `run-context`, `run-token-id`, `run-input-length`), when memory runs out
  ///   (`run-memory`), for parameters that cannot be read, and whatever `observe` throws.
  func run(_ sequences: [TokenSequence], observe: Observer?) throws -> [ExecutionResult]

  /// Runs the part of the model that lies between `given` and `wanted`.
  ///
  /// With the same sequences and the values that an observer saw in a run of the whole
  /// model, each node has the same value as in that run, bit for bit.
  /// - Parameters:
  ///   - sequences: their tokens are read only where the part reads tokens; their lengths,
  ///     token types and masks count as ever.
  ///   - given: node → its value for each sequence.
  ///   - wanted: nodes whose values are returned. What they do not need is not run.
  ///   - observe: called as in a run of the whole model, with given values too.
  /// - Returns: for each sequence the values of `wanted`, by node.
  /// - Throws: `Refusal` with rule `graph-part` for a name that is not a value of the graph,
  ///   `run-given` for a given value of another size, or as `run(_:observe:)`.
  func run(
    _ sequences: [TokenSequence], from given: [String: [Matrix]], until wanted: [String], observe: Observer?
  ) throws -> [ExecutionResult]

  /// The likelihood of tokens after those before them, as one batch. What several sequences begin with is run once.
  ///
  /// - Returns: for each sequence the scores of its tokens from `firstScored` on. They are those of the sequence run
  ///   alone: of integer products bit for bit, of float ones but for rounding.
  /// - Throws: `Refusal` with rule `run-not-causal` where tokens see those that follow, `run-output` where there are
  ///   no logits, `run-not-finite` for logits that are NaN or infinite; else as `run(_:observe:)`.
  func scores(of sequences: [ScoredSequence]) throws -> [[TokenScore]]

  /// Sequences that grow, with a cache of keys and values.
  ///
  /// - Parameters:
  ///   - tokenCapacity: the most tokens that each will have; nil: the model's context, or 4,096 where it has no limit.
  ///   - sequenceCount: how many there are, at least 1.
  /// - Throws: `Refusal` with rule `run-not-causal` where tokens see those that
  ///   follow, `run-output` where there are no logits, `run-memory`.
  func makeSession(tokenCapacity: Int?, sequenceCount: Int) throws -> Session
}

extension Executor {
  /// A sequence that grows.
  ///
  /// - Throws: as `makeSession(tokenCapacity:sequenceCount:)`.
  package func makeSession(tokenCapacity: Int?) throws -> Session {
    try makeSession(tokenCapacity: tokenCapacity, sequenceCount: 1)
  }

  /// Runs the model on one sequence; what is left out is nil.
  ///
  /// - Throws: as `run(_:observe:)`.
  package func run(
    tokenIDs: [Int], tokenTypeIDs: [Int]? = nil, attentionMask: [Bool]? = nil, observe: Observer? = nil
  ) throws -> ExecutionResult {
    let sequence = TokenSequence(tokenIDs, tokenTypeIDs: tokenTypeIDs, attentionMask: attentionMask)
    guard let result = try run([sequence], observe: observe).first else {
      preconditionFailure("there is a result for each sequence")
    }
    return result
  }
}
