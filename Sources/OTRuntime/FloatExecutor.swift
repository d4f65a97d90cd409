import OTGraph

/// Runs a graph in float32, whatever it says about quantized activations.
///
/// Parameters are fetched when the node that needs them runs, in blocks of
/// rows; unless they are cached, no more than one block per thread and the
/// values still needed are in memory. Results do not depend on the number of threads.
///
/// It does not keep keys and values between runs: every run is a whole sequence.
public struct FloatExecutor: Executor {
  /// The graph that is run.
  public var graph: Graph { interpreter.walk.graph }
  /// The most threads that work at a time.
  public var threadCount: Int { interpreter.threadCount }

  private let interpreter: Interpreter

  /// An executor of `graph`.
  ///
  /// - Parameter cachesParameters: whether parameters are kept, in float32,
  ///   from one run to the next.
  /// - Throws: `Refusal` with rule `run-incomplete` or `run-size`.
  public init(
    graph: Graph, parameters: any ParameterSource, threadCount: Int, cachesParameters: Bool = false
  ) throws {
    interpreter = Interpreter(
      walk: try GraphWalk(graph),
      parameters: cachesParameters ? ParameterCache(parameters) : parameters,
      threadCount: max(1, threadCount), integers: nil)
  }

  /// Runs the model on one sequence.
  ///
  /// - Throws: as `Executor.run` says.
  public func run(
    tokenIDs: [Int], tokenTypeIDs: [Int]?, attentionMask: [Bool]?, observe: Observer?
  ) throws -> ExecutionResult {
    try interpreter.run(
      ModelInput(
        tokenIDs: tokenIDs, tokenTypeIDs: tokenTypeIDs, attentionMask: attentionMask, graph: graph),
      observe: observe)
  }
}
