import OTContainer
import OTFoundation
import OTGraph
import OTKernels

/// Runs a packed model: products with packed weights in exact integer arithmetic
/// on the codes as stored, everything else in float32 unless attention is asked for
/// in integers.
///
/// - On a static site the value is rounded as it is, since its steps are part
///   of the norm before it and of the weights: no activation scale anywhere.
/// - On a dynamic site each token has one scale.
/// - Float activations (other sites, the output head) meet packed weights as
///   three integer digits and one scale per token: 24 bits, the precision of float32.
/// - Weights that are stored as floats are multiplied as floats.
///
/// Integer products are the same for every instruction set and any number of
/// threads, and whether tokens come at once or one by one.
package struct QuantizedExecutor: Executor {
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

  /// An executor of `graph` with the tensors of `container`, loaded; see `ContainerParameters` for what is checked.
  ///
  /// - Parameters:
  ///   - checksMappedCodes: whether codes that are used in place (from
  ///     a file that is not compressed) are read once to be checked.
  ///   - attentionBits: bits (2...8) of the queries, keys and values of
  ///     attention, with one scale per token; nil: they are float.
  /// - Throws: `Refusal` with a rule `run-incomplete`, `run-size`,
  ///   `parameter-…` or `otq-…`.
  package init(
    graph: Graph, container: Container, threadCount: Int, checksMappedCodes: Bool = false, attentionBits: Int? = nil
  ) throws {
    try self.init(
      graph: graph, container: container, threadCount: threadCount, checksMappedCodes: checksMappedCodes,
      attentionBits: attentionBits, kernels: .current)
  }

  /// The same with the kernels of a certain instruction set.
  package init(
    graph: Graph, container: Container, threadCount: Int, checksMappedCodes: Bool = false, attentionBits: Int? = nil,
    kernels: Kernels
  ) throws {
    let parameters = try ContainerParameters(
      graph: graph, container: container, threadCount: max(1, threadCount), checksMappedCodes: checksMappedCodes)
    var packed: [String: PackedMatrix] = [:]
    for use in graph.parameterUses where use.role == .weight { packed[use.node] = parameters.packed(use) }
    engine = try Engine(
      graph: graph, parameters: parameters, packed: packed, threadCount: threadCount, kernels: kernels,
      attentionBits: attentionBits)
  }

  /// An executor of `graph` with weights in memory; all else, and weights that are not among
  /// them, in float from `parameters`.
  ///
  /// - Parameter weights: by the name of the linear.
  /// - Throws: `Refusal` with a rule `run-incomplete` or `run-size`, or as `parameters` throws.
  package init(
    graph: Graph, parameters: any ParameterSource, weights: [String: QuantizedWeight], threadCount: Int
  ) throws {
    engine = try Engine(
      graph: graph, parameters: parameters, packed: weights.mapValues(\.matrix), threadCount: max(1, threadCount),
      kernels: .current)
  }

  /// Runs whole sequences as one batch. An observer sees the values of sites as
  /// they are before rounding.
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
