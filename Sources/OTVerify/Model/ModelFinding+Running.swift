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
    packed: any Executor, source: any Executor, weights: StoredWeights, sequences: [TokenSequence], file: String,
    tolerance: Tolerance = Tolerance(), threadCount: Int = 1
  ) throws {
    var comparison = ModelComparison(isCausal: source.graph.isCausal)
    // One at a time: logits of a sequence take more memory than all else.
    for sequence in sequences {
      let expected = try source.run([sequence], observe: nil)
      let actual = try Refusal.naming(file) { try packed.run([sequence], observe: nil) }
      for (actual, expected) in zip(actual, expected) {
        try comparison.add(actual, reference: expected, tokenIDs: sequence.tokenIDs, threadCount: threadCount)
      }
    }
    self.init(
      comparison, tolerance: tolerance, scheme: ModelScheme(graph: packed.graph, weights: weights))
  }
}
