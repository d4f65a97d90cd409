import OTGraph
import OTTensor

/// Walks a graph: what the executors share.
///
/// They differ in `integers` alone: what it holds is multiplied in integers,
/// all else is float32.
struct Interpreter: Sendable {
  let walk: GraphWalk
  let parameters: any ParameterSource
  let threadCount: Int
  /// Nil: everything is float.
  let integers: IntegerWeights?

  func run(_ input: ModelInput, observe: Executor.Observer?) throws -> ExecutionResult {
    let outputs = try walk.run { node, inputs in
      let value = try evaluate(node, inputs, of: input)
      guard let observe else { return value }
      switch value {
      case .ids: break
      case .matrix(let matrix), .quantized(let matrix, _):
        try matrix.values.withUnsafeBufferPointer {
          try observe(node.name, $0, matrix.rowCount, matrix.channelCount)
        }
      }
      return value
    }
    return ExecutionResult(outputs: outputs)
  }

  /// The value of `node`, with its integers where it is a site that has some.
  func emitted(_ matrix: Matrix, by node: Node) throws -> Value {
    guard let integers, let quantization = walk.graph.activations[node.name] else {
      return .matrix(matrix)
    }
    let codes = try QuantizedMatrix(
      matrix, quantization, threadCount: threadCount, kernels: integers.kernels)
    return codes.map { .quantized(matrix, $0) } ?? .matrix(matrix)
  }
}
