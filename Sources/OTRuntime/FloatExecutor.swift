import OTGraph
import OTKernels

/// Runs a graph in float32, whatever it says about quantized activations.
///
/// Weights are fetched when the linear that needs them runs, in blocks of rows;
/// unless they are cached, no more than one block per thread is in memory. Vectors stay in memory.
package struct FloatExecutor: Executor {
  private let engine: Engine

  /// The graph that is run.
  package var graph: Graph { engine.graph }
  /// The most threads that work at a time.
  package var threadCount: Int { engine.pool.threadCount }
  /// Tells what stages take.
  package var stageTimer: StageTimer { engine.timer }
  /// Memory in bytes that values take for each token of a batch.
  package var bytesPerToken: Int { engine.bytesPerToken }
  /// The same of a part of the model.
  ///
  /// - Throws: as `Executor.bytesPerToken(from:until:)` says.
  package func bytesPerToken(from given: Set<String>, until wanted: [String]) throws -> Int {
    try engine.bytesPerToken(from: given, until: wanted)
  }
  /// The program for a part of the model, stage by stage.
  ///
  /// - Throws: as `Executor.listing(from:until:fuses:)` says.
  package func listing(from given: Set<String>, until wanted: [String], fuses: Bool) throws -> ProgramListing {
    try engine.listing(from: given, until: wanted, fuses: fuses)
  }

  /// An executor of `graph`.
  ///
  /// - Parameter cachesParameters: whether parameters are kept, in float32,
  ///   from one run to the next.
  /// - Throws: `Refusal` with rule `run-incomplete` or `run-size`, or as `parameters` throws.
  package init(
    graph: Graph, parameters: any ParameterSource, threadCount: Int, cachesParameters: Bool = false
  ) throws {
    engine = try Engine(
      graph: graph, parameters: cachesParameters ? ParameterCache(parameters) : parameters, packed: [:],
      threadCount: threadCount, kernels: .current)
  }

  /// Runs whole sequences as one batch.
  ///
  /// - Throws: as `Executor.run` says.
  package func run(_ sequences: [TokenSequence], observe: Observer?) throws -> [ExecutionResult] {
    try engine.run(sequences, observe: observe)
  }

  /// Runs a part of the model.
  ///
  /// - Throws: as `Executor.run` says.
  package func run(
    _ sequences: [TokenSequence], from given: [String: [Matrix]], until wanted: [String], observe: Observer?
  ) throws -> [ExecutionResult] {
    try engine.run(sequences, from: given, until: wanted, observe: observe)
  }

  /// Sequences that grow.
  ///
  /// - Throws: as `Executor.makeSession` says.
  package func makeSession(tokenCapacity: Int?, sequenceCount: Int) throws -> Session {
    try Session(engine, tokenCapacity: tokenCapacity, sequenceCount: sequenceCount)
  }

  /// The likelihood of tokens after those before them.
  ///
  /// - Throws: as `Executor.scores` says.
  package func scores(of sequences: [ScoredSequence]) throws -> [[TokenScore]] {
    try engine.scores(of: sequences)
  }
}
