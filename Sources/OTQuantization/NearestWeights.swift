import OTGraph
import OTModel
import OTRuntime
import OTTensor

/// Weights of linears rounded to nearest, in memory.
struct NearestWeights {
  private(set) var weights: [String: QuantizedWeight] = [:]
  /// W·z of linears whose input is shifted, for their biases.
  private(set) var shiftProducts: [String: [Float]] = [:]

  /// - Parameter plan: the plan of a linear's weight; nil where it stays float.
  init(
    of linears: [String], in graph: Graph, _ parameters: ParameterReader, threadCount: Int,
    plan: (String) -> WeightPlan?
  ) throws {
    for use in linears.flatMap(graph.parameterUses(of:)) where use.role == .weight {
      guard let scheme = plan(use.node)?.scheme(for: use.shape) else { continue }
      let rows = try WeightQuantizer(
        parameters.rows(of: use), scheme: scheme, inputZero: use.inputZero, threadCount: threadCount
      ).quantizeAll(threadCount: threadCount)
      weights[use.node] = try QuantizedWeight(rows, use.shape, scheme)
      shiftProducts[use.node] = rows.shiftProduct
    }
  }
}
