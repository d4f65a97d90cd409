import OTFoundation
import OTRuntime

extension ModelFinding {
  /// Runs a packed model and its source on sequences and compares nothing but their outputs.
  ///
  /// - Parameters:
  ///   - weights: how linears' weights are stored, for the scheme by which tolerances are chosen.
  ///   - file: named in refusals of the packed model.
  /// - Throws: as executors throw.
  package init(
    packed: any Executor, source: any Executor, weights: StoredWeights, sequences: [[Int]], file: String,
    tolerance: Tolerance = Tolerance(), threadCount: Int = 1
  ) throws {
    var comparison = ModelComparison(isCausal: source.graph.isCausal)
    let inputs = sequences.map { TokenSequence($0) }
    let expected = try source.run(inputs, observe: nil)
    let actual = try Refusal.naming(file) { try packed.run(inputs, observe: nil) }
    for (sequence, results) in zip(sequences, zip(actual, expected)) {
      try comparison.add(results.0, reference: results.1, tokenIDs: sequence, threadCount: threadCount)
    }
    self.init(
      comparison, tolerance: tolerance, scheme: ModelScheme(graph: packed.graph, weights: weights))
  }
}
