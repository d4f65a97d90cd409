import OTGraph
import OTKernels

/// One linear.
final class Product: Sendable {
  enum Weights: Sendable {
    /// Multiplied in integers, with a quantized value and the partition of its columns.
    case packed(PackedMatrix, Program.QuantizedID, partition: Int)
    case float(ParameterUse)
  }

  /// The epilogue of a product, done while the product is in cache.
  enum Epilogue: Sendable {
    case none
    case activate(Kernels.Activation)
    /// Adds a value that was there before.
    case add(Program.ValueID)
  }

  /// Σ (u − zeroPoint) of each output channel.
  enum WeightSums {
    /// By run of columns.
    case runs([[Int32]])
    /// By group of activations, `[row tiles, groups, 16]`.
    case groups([Int32])

    /// Those of a run.
    func ofRun(_ index: Int) -> [Int32]? {
      if case .runs(let sums) = self { sums[index] } else { nil }
    }

    /// Those of groups.
    var ofGroups: [Int32]? {
      if case .groups(let sums) = self { sums } else { nil }
    }
  }

  let linear: Linear
  let weights: Weights
  let bias: [Float]?
  let epilogue: Epilogue
  let from: Program.ValueID
  let to: Program.ValueID
  /// Where tokens or their groups have codes of 0.
  let weightSums: WeightSums?

  init(
    linear: Linear, weights: Weights, weightSums: WeightSums?, bias: [Float]?, epilogue: Epilogue,
    from: Program.ValueID, to: Program.ValueID
  ) {
    self.weightSums = weightSums
    self.linear = linear
    self.weights = weights
    self.bias = bias
    self.epilogue = epilogue
    self.from = from
    self.to = to
  }
}

/// Linears that read one value.
final class ProductStage: RowwiseStage {
  let products: [Product]

  init(_ products: [Product]) { self.products = products }

  var written: [Program.ValueID] { products.map(\.to) }

  var read: [Program.ValueID] {
    products.flatMap { product -> [Program.ValueID] in
      var values: [Program.ValueID] = []
      if case .float = product.weights { values.append(product.from) }
      if case .add(let other) = product.epilogue { values.append(other) }
      return values
    }
  }

  var readQuantized: [Program.QuantizedID] {
    products.compactMap { product in
      if case .packed(_, let id, _) = product.weights { return id }
      return nil
    }
  }

  /// The BLAS orders the sums of floats by the number of rows.
  var isRowwise: Bool {
    products.allSatisfy { if case .packed = $0.weights { true } else { false } }
  }

  func run(_ pass: Pass, rows: Range<Int>) throws { try pass.multiply(products, rows: rows) }

  func run(_ pass: Pass, in block: RowBlock) throws { try pass.multiply(products, in: block) }
}

// MARK: - Lowering

extension ProductStage {
  /// Adds all linears that read what a linear reads, at the place of the first: of experts those of the same.
  static func lower(_ linear: Linear, _ node: Node, into compiler: inout ProgramCompiler) throws {
    let producer = node.inputs[0]
    // What the stage itself computes cannot be read by it.
    let earlier = 0..<compiler.values.count
    var products: [Product] = []
    var added: [Node] = []
    let names = compiler.linears(reading: producer, with: linear.expert, Array(node.inputs.dropFirst()))
      .filter { compiler.valueIDs[$0] == nil }
    let from = try compiler.input(of: linear, node, for: names)
    for name in names {
      guard let node = compiler.graph[name], case .linear(let linear) = node.operation else { continue }
      let (epilogue, last) = epilogue(of: node, earlier: earlier, compiler)
      let to = compiler.newValue(last)
      // The linear has no value of its own, but it is done.
      compiler.valueIDs[node.name] = to
      let weights = weights(of: node, linear, from, compiler)
      var weightSums: Product.WeightSums?
      if case .packed(let matrix, let id, _) = weights {
        let quantization = compiler.quantizedValues[id].quantization
        if quantization.hasRowZeros { weightSums = .runs(try matrix.weightSums()) }
        if quantization.hasGroupZeros, let size = quantization.groupSize {
          weightSums = .groups(try matrix.weightSums(groupSize: size))
        }
      }
      products.append(
        Product(
          linear: linear, weights: weights, weightSums: weightSums,
          bias: try compiler.vector(.bias, of: node), epilogue: epilogue, from: from, to: to))
      added.append(last)
    }
    compiler.append(ProductStage(products), rows: compiler.values[from].rows)
    for last in added { try compiler.finish(last) }
  }

  /// The epilogue of the product of `node`, and the node whose value it then is.
  private static func epilogue(
    of node: Node, earlier: Range<Program.ValueID>, _ compiler: ProgramCompiler
  ) -> (Product.Epilogue, Node) {
    let readers = compiler.part.consumers(of: node.name)
    guard compiler.fuses, readers.count == 1, let reader = compiler.graph[readers[0]],
      !compiler.part.outputs.values.contains(node.name)
    else { return (.none, node) }
    switch reader.operation {
    case .activation(let kind): return (.activate(Kernels.Activation(kind)), reader)
    case .add:
      let other = reader.inputs[0] == node.name ? reader.inputs[1] : reader.inputs[0]
      guard let value = compiler.valueIDs[other], earlier.contains(value) else { return (.none, node) }
      return (.add(value), reader)
    default: return (.none, node)
    }
  }

  private static func weights(
    of node: Node, _ linear: Linear, _ from: Program.ValueID, _ compiler: ProgramCompiler
  ) -> Product.Weights {
    if let matrix = compiler.packed[node.name],
      let (id, partition) = compiler.quantizedInput(of: linear, matrix, from, producer: node.inputs[0])
    {
      return .packed(matrix, id, partition: partition)
    }
    guard let use = compiler.use(.weight, of: node) else { preconditionFailure("a linear has a weight") }
    return .float(use)
  }
}
