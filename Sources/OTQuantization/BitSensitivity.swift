import OTFoundation
import OTGraph
import OTModel
import OTRuntime
import OTTensor

/// Measures how far the outputs of a model move when the weights of one site have few bits and all else is float.
///
/// The samples pass through the float model once. From each site on they pass a second time, with the
/// site's weights rounded to nearest.
package struct BitSensitivity: Sendable {
  /// Called with the sites done and in all; what it throws ends the run.
  package typealias Progress = (_ doneCount: Int, _ totalCount: Int) throws -> Void

  /// The bits at which sites are tried: few, so that what is measured is far above the noise of float arithmetic.
  package static let probeBits = 4

  private let graph: Graph
  private let parameters: ParameterReader
  private let weights: [String: WeightPlan]
  private let threadCount: Int
  /// What is compared: logits where there are some, else all outputs.
  private let outputs: [String]
  private let givesLogits: Bool

  /// The measurement of a graph whose migration is decided.
  ///
  /// - Parameter weights: the plan of each linear's weight, by node; its bits do not matter.
  /// - Throws: as migration.
  package init(
    graph: Graph, parameters: ParameterReader, weights: [String: WeightPlan], threadCount: Int
  ) throws {
    self.graph = try graph.quantizing([:])
    self.parameters = parameters
    self.weights = weights
    self.threadCount = threadCount
    let logits = graph.outputs["logits"]
    givesLogits = logits != nil
    outputs = logits.map { [$0] } ?? Set(graph.outputs.values).sorted()
  }

  /// The distance of the outputs for each site, by its producer: the mean KL divergence of the next token in nats,
  /// or ‖y − ŷ‖² / ‖y‖² of the outputs of a model without logits.
  ///
  /// - Parameter samples: tokens.
  /// - Throws: as executors and quantizers throw.
  package func run(_ samples: [TokenSequence], progress: Progress? = nil) throws -> [String: Double] {
    let sequences = samples.filter { !$0.tokenIDs.isEmpty }
    let cache = ParameterCache(parameters)
    func executor(_ weights: [String: QuantizedWeight]) throws -> QuantizedExecutor {
      try QuantizedExecutor(graph: graph, parameters: cache, weights: weights, threadCount: threadCount)
    }
    let source = try executor([:])
    let reference = try source.run(sequences, from: [:], until: outputs, observe: nil)
    var distances: [String: Double] = [:]
    var values: [String: [Matrix]] = [:]
    let sites = graph.sites.filter { $0.consumers.contains { weights[$0]?.scheme != nil } }
    try progress?(0, sites.count)
    for (index, site) in sites.enumerated() {
      let kept = graph.frontier(at: site)
      let results = try source.run(sequences, from: values, until: kept, observe: nil)
      values = try kept.reduce(into: [:]) { values, node in values[node] = try results.map { try $0.output(node) } }
      let quantized = try NearestWeights(of: site.consumers, in: graph, parameters, threadCount: threadCount) {
        weights[$0]?.scheme?.with(bits: BitSensitivity.probeBits).map { WeightPlan(scheme: $0) }
      }
      let found = try executor(quantized.weights).run(sequences, from: values, until: outputs, observe: nil)
      distances[site.producer] = try distance(found, from: reference)
      try progress?(index + 1, sites.count)
    }
    return distances
  }

  private func distance(_ found: [ExecutionResult], from reference: [ExecutionResult]) throws -> Double {
    var comparison = DistributionComparison()
    var (difference, squares) = (0.0, 0.0)
    for (found, expected) in zip(found, reference) {
      for name in outputs {
        let (found, expected) = (try found.output(name), try expected.output(name))
        if givesLogits {
          try comparison.add(logits: found, reference: expected, threadCount: threadCount)
          continue
        }
        for (value, wanted) in zip(found.values, expected.values) {
          difference += (Double(value) - Double(wanted)) * (Double(value) - Double(wanted))
          squares += Double(wanted) * Double(wanted)
        }
      }
    }
    return givesLogits ? comparison.mean ?? 0 : difference == 0 ? 0 : difference / squares
  }
}
