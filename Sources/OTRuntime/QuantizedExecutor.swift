import OTContainer
import OTGraph
import OTKernels

/// The weights that are multiplied in integers, by the name of their linear.
struct IntegerWeights: Sendable {
  let weights: [String: PackedMatrix]
  let kernels: Kernels
}

/// Runs a packed model: linears of quantized sites in exact integer arithmetic
/// on the codes as stored, everything else in float32.
///
/// - On a static site the value is rounded as it is, since its steps are part
///   of the norm before it and of the weights: no activation scale anywhere.
/// - On a dynamic site each token has one scale.
/// - Linears of other sites, those outside the blocks and those whose weight is
///   not quantized multiply dequantized weights and float activations.
///
/// Integer results do not depend on instruction set or threads. It keeps no keys and
/// values between runs: every run is a whole sequence.
public struct QuantizedExecutor: Executor {
  /// The graph that is run.
  public var graph: Graph { interpreter.walk.graph }
  /// The most threads that work at a time.
  public var threadCount: Int { interpreter.threadCount }

  private let interpreter: Interpreter

  /// An executor of `graph` with the tensors of `container`, loaded and checked.
  ///
  /// - Parameter checksMappedCodes: whether codes that are used in place (from
  ///   a file that is not compressed) are read once to be checked.
  /// - Throws: `Refusal` with a rule `run-incomplete`, `run-size`,
  ///   `parameter-…` or `otq-…`.
  public init(
    graph: Graph, container: Container, threadCount: Int, checksMappedCodes: Bool = true
  ) throws {
    try self.init(
      graph: graph, container: container, threadCount: threadCount,
      checksMappedCodes: checksMappedCodes, kernels: .current)
  }

  /// The same with the kernels of a certain instruction set for all that is integer.
  package init(
    graph: Graph, container: Container, threadCount: Int, checksMappedCodes: Bool = true,
    kernels: Kernels
  ) throws {
    let walk = try GraphWalk(graph)
    let threadCount = max(1, threadCount)
    let parameters = try ContainerParameters(
      graph: graph, container: container, threadCount: threadCount,
      checksMappedCodes: checksMappedCodes)
    var weights: [String: PackedMatrix] = [:]
    for use in graph.parameterUses where use.role == .weight && use.linearRole == .block {
      weights[use.node] = parameters.packed(use)
    }
    interpreter = Interpreter(
      walk: walk, parameters: parameters, threadCount: threadCount,
      integers: IntegerWeights(weights: weights, kernels: kernels))
  }

  /// Runs the model on one sequence. An observer sees the values of sites as
  /// they are before rounding.
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
