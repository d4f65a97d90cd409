import OTFoundation
import OTGraph
import OTModel
import OTRuntime

extension ModelFinding {
  /// Runs a packed model and its source on sequences and compares nothing but their outputs.
  ///
  /// - Parameters:
  ///   - weights: how linears' weights are stored, for the scheme by which tolerances are chosen.
  ///   - file: named in refusals of the packed model.
  /// - Throws: as executors throw.
  package init(
    packed: any Executor, source: any Executor, weights: StoredWeights, sequences: [TokenSequence], file: String,
    tolerance: Tolerance = Tolerance(), threadCount: Int = 1,
    progress: ((_ doneTokenCount: Int, _ tokenCount: Int) throws -> Void)? = nil
  ) throws {
    var comparison = ModelComparison(isCausal: source.graph.isCausal)
    let tokenCount = sequences.reduce(0) { $0 + $1.tokenIDs.count }
    var doneTokenCount = 0
    // One at a time: logits of a sequence take more memory than all else.
    for sequence in sequences {
      try progress?(doneTokenCount, tokenCount)
      let expected = try source.run([sequence], observe: nil)
      try progress?(doneTokenCount, tokenCount)
      let actual = try Refusal.naming(file) { try packed.run([sequence], observe: nil) }
      for (actual, expected) in zip(actual, expected) {
        try comparison.add(actual, reference: expected, tokenIDs: sequence.tokenIDs, threadCount: threadCount)
      }
      doneTokenCount += sequence.tokenIDs.count
    }
    try progress?(tokenCount, tokenCount)
    self.init(
      comparison, tolerance: tolerance, scheme: ModelScheme(graph: packed.graph, weights: weights))
  }

  /// Runs a packed file and its source on sequences; nil for a file that cannot be run, or without sequences.
  ///
  /// - Throws: as executors throw, and what `progress` throws.
  package init?(
    of file: PackedModel, source: SourceModel, sequences: [TokenSequence], threadCount: Int,
    progress: ((_ doneTokenCount: Int, _ tokenCount: Int) throws -> Void)? = nil
  ) throws {
    guard !sequences.isEmpty, let graph = file.graph, !graph.outputs.isEmpty else { return nil }
    try self.init(
      packed: QuantizedExecutor(graph: graph, container: file.container, threadCount: threadCount),
      source: FloatExecutor(graph: source.graph(), parameters: source.parameters, threadCount: threadCount),
      weights: StoredWeights(graph: graph, container: file.container), sequences: sequences, file: file.path,
      threadCount: threadCount, progress: progress)
  }
}
