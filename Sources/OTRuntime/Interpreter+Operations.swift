import OTGraph
import OTTensor

extension Interpreter {
  func evaluate(_ node: Node, _ inputs: [Value], of input: ModelInput) throws -> Value {
    switch node.operation {
    case .tokenIDs: .ids(input.tokenIDs)
    case .positionIDs: .ids(Array(input.tokenIDs.indices))
    case .tokenTypeIDs: .ids(input.tokenTypeIDs)
    case .embedding(let embedding):
      try emitted(embedded(inputs[0].ids, embedding, node: node), by: node)
    case .linear(let linear):
      try emitted(product(inputs[0], linear, node: node), by: node)
    default:
      try emitted(evaluate(node, inputs.map(\.matrix), mask: input.attentionMask), by: node)
    }
  }

  private func evaluate(_ node: Node, _ inputs: [Matrix], mask: [Bool]?) throws -> Matrix {
    switch node.operation {
    case .tokenIDs, .positionIDs, .tokenTypeIDs, .embedding, .linear:
      preconditionFailure("handled above")
    case .layerNorm(let norm):
      return try inputs[0].layerNormalized(
        epsilon: norm.epsilon, gamma: vector(.gamma, of: node), beta: vector(.beta, of: node),
        threadCount: threadCount)
    case .rmsNorm(let norm):
      return try inputs[0].rmsNormalized(
        epsilon: norm.epsilon, gamma: vector(.gamma, of: node), beta: vector(.beta, of: node),
        threadCount: threadCount)
    case .attention(let attention):
      return try attention.mixed(
        queries: inputs[0], keys: inputs[1], values: inputs[2], mask: mask,
        threadCount: threadCount)
    case .headSlice(let slice):
      return try inputs[0].sliced(slice, threadCount: threadCount)
    case .activation(let kind):
      return try inputs[0].activated(kind, threadCount: threadCount)
    case .multiply:
      return try inputs[0].multiplied(by: inputs[1], threadCount: threadCount)
    case .add:
      return try inputs[0].adding(inputs[1], threadCount: threadCount)
    case .firstToken:
      return Matrix(
        rowCount: 1, channelCount: inputs[0].channelCount, values: Array(inputs[0][0]))
    case .affine:
      let transform = ChannelTransform(
        shift: try vector(.shift, of: node), scale: try vector(.scale, of: node))
      return try inputs[0].transformed(by: transform, threadCount: threadCount)
    }
  }

  /// The parameter of `node` with this role; nil where it has none.
  private func vector(_ role: ParameterUse.Role, of node: Node) throws -> [Float]? {
    guard let use = use(role, of: node) else { return nil }
    return try parameters.values(of: use)
  }

  private func use(_ role: ParameterUse.Role, of node: Node) -> ParameterUse? {
    walk.graph.parameterUses(of: node.name).first { $0.role == role }
  }

  // MARK: Embeddings

  /// The rows of a table, read one by one: a table is never whole in memory.
  private func embedded(_ ids: [Int], _ embedding: Embedding, node: Node) throws -> Matrix {
    guard let use = use(.table, of: node) else { preconditionFailure("an embedding has a table") }
    var rows: [Int: [Float]] = [:]
    var values: [Float] = []
    values.reserveCapacity(ids.count * embedding.size)
    for (index, id) in ids.enumerated() {
      guard (0..<embedding.rowCount - embedding.rowOffset).contains(id) else {
        let last = embedding.rowCount - embedding.rowOffset - 1
        throw Refusal(
          "run-token-id", "token \(index) has the ID \(id), '\(node.name)' has 0...\(last)")
      }
      let row = id + embedding.rowOffset
      let found = try rows[row] ?? parameters.values(of: use, rows: row..<row + 1)
      rows[row] = found
      values += found
    }
    return Matrix(rowCount: ids.count, channelCount: embedding.size, values: values)
  }

  // MARK: Linears

  /// Weights that a thread fetches and multiplies with at a time.
  private static let blockWeightCount = 1 << 20
  private static let blockRowCounts = 16...1024

  /// `x Wᵀ + b`: with integers where the input has some and the weight is
  /// stored as such, else with floats.
  private func product(_ x: Value, _ linear: Linear, node: Node) throws -> Matrix {
    guard case .quantized(_, let codes) = x, linear.role == .block,
      let weight = integers?.weights[node.name]
    else { return try product(x.matrix, linear, node: node) }
    return try weight.product(
      codes, bias: vector(.bias, of: node), threadCount: threadCount,
      kernels: integers?.kernels ?? .current)
  }

  /// `x Wᵀ + b`, in blocks of output channels.
  private func product(_ x: Matrix, _ linear: Linear, node: Node) throws -> Matrix {
    guard let weight = use(.weight, of: node) else { preconditionFailure("a linear has a weight") }
    let bias = use(.bias, of: node)
    let fitting = Interpreter.blockWeightCount / linear.inFeatures / 16 * 16
    let limits = Interpreter.blockRowCounts
    let blockRowCount = min(max(fitting, limits.lowerBound), limits.upperBound)
    let blockCount = (linear.outFeatures + blockRowCount - 1) / blockRowCount
    return try .written(rowCount: x.rowCount, channelCount: linear.outFeatures) { buffer in
      nonisolated(unsafe) let target = buffer
      _ = try mapBlocks(blockCount, threadCount: threadCount) { block in
        let start = block * blockRowCount
        let rows = start..<min(linear.outFeatures, start + blockRowCount)
        let weights = try parameters.values(of: weight, rows: rows)
        let biases = try bias.map { try parameters.values(of: $0, rows: rows) }
        if let biases {
          for token in 0..<x.rowCount {
            let to = token * linear.outFeatures + start
            for index in biases.indices { target[to + index] = biases[index] }
          }
        }
        x.values.withUnsafeBufferPointer { x in
          weights.withUnsafeBufferPointer { weights in
            BLAS.multiplyTransposed(
              m: x.count / linear.inFeatures, n: rows.count, k: linear.inFeatures,
              BLAS.Operand(base: x.baseAddress, stride: linear.inFeatures),
              BLAS.Operand(base: weights.baseAddress, stride: linear.inFeatures),
              addend: biases == nil ? 0 : 1,
              into: target.baseAddress.map { $0 + start }, stride: linear.outFeatures)
          }
        }
      }
    }
  }
}
