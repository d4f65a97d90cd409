import OTFoundation
import OTGraph
import OTModel
import OTRuntime
import OTTensor

/// Runs a whole model as plans would quantize it on samples, weights rounded to nearest, whatever the plans say.
/// Quantized weights are in memory, a byte each; tables and the output head stay as they are.
///
/// The loss of a model of language is the mean of −ln p of each next token. That of another model is the mean
/// squared error, against the float model, of what its attentions read and of its last states, averaged over these.
package struct ModelTrial: Sendable {
  private let parameters: ParameterReader
  private let samples: [TokenSequence]
  private let threadCount: Int
  /// The nodes that are compared, and what the float model gives of each sample; nil for a model of language.
  private let expected: (names: [String], values: [ExecutionResult])?

  /// - Parameters:
  ///   - graph: the model's own.
  ///   - samples: tokens.
  /// - Throws: as executors throw.
  package init(of graph: Graph, _ parameters: ParameterReader, samples: [TokenSequence], threadCount: Int) throws {
    self.parameters = parameters
    self.samples = samples.filter { $0.tokenIDs.count > 1 }
    self.threadCount = threadCount
    guard graph.outputs["logits"] == nil || !graph.isCausal else {
      expected = nil
      return
    }
    let names = graph.sites.filter { $0.consumers.contains(where: graph.givesScores) }.map(\.producer)
    let ends = graph.outputs["hidden"].map { [$0] } ?? Array(graph.outputs.values)
    let executor = try FloatExecutor(
      graph: graph, parameters: parameters, threadCount: threadCount, cachesParameters: true)
    let compared = Array(Set(names + ends)).sorted()
    expected = (
      compared, try executor.run(self.samples, from: [:], until: compared, observe: nil)
    )
  }

  /// The loss of a graph that was migrated and quantized.
  ///
  /// - Parameters:
  ///   - weights: the plan of each linear's weight, by node.
  ///   - check: is called before each sample; what it throws ends the trial.
  /// - Throws: as quantizers and executors throw.
  package func loss(
    of graph: Graph, weights: [String: WeightPlan], check: () throws -> Void = {}
  ) throws -> Double {
    let quantized = try NearestWeights(
      of: graph.nodes.map(\.name), in: graph, parameters, threadCount: threadCount
    ) { weights[$0] }
    let source = PartParameters(
      parameters, nodes: Set(graph.nodes.map(\.name)), shiftProducts: quantized.shiftProducts)
    let executor = try QuantizedExecutor(
      graph: graph, parameters: source, weights: quantized.weights, threadCount: threadCount)
    guard let expected else {
      var likelihood = TokenLikelihood()
      for sample in samples {
        try check()
        try likelihood.add(
          logits: executor.run([sample], observe: nil)[0].output("logits"), tokenIDs: sample.tokenIDs,
          threadCount: threadCount)
      }
      return likelihood.losses.reduce(0, +) / Double(max(likelihood.losses.count, 1))
    }
    // What migration has changed cannot be compared.
    let names = expected.names.filter { graph.transform(ofValue: $0).isIdentity }
    var errors = [(sum: Double, count: Int)](repeating: (0, 0), count: names.count)
    for (sample, expected) in zip(samples, expected.values) {
      try check()
      let actual = try executor.run([sample], from: [:], until: names, observe: nil)
      for (index, name) in names.enumerated() {
        for (y, approximation) in zip(try expected.output(name).values, try actual[0].output(name).values) {
          errors[index].sum += Double(y - approximation) * Double(y - approximation)
          errors[index].count += 1
        }
      }
    }
    return errors.reduce(0) { $0 + $1.sum / Double(max($1.count, 1)) } / Double(max(names.count, 1))
  }
}
