import OTFoundation

/// Collects the nodes of a graph while it checks that the checkpoint has their tensors.
///
/// Missing tensors and wrong shapes are gathered and refused together.
struct GraphBuilder {
  private(set) var nodes: [Node] = []
  private var problems: [String] = []
  private let tensors: TensorCatalog

  init(_ tensors: TensorCatalog) { self.tensors = tensors }

  // MARK: Tensors

  /// A parameter that the model must have.
  mutating func required(_ source: SourceTensor, _ dimensions: [Int]) -> SourceTensor {
    if tensors[source.name] == nil {
      problems.append("'\(source.name)' is missing")
    } else {
      check(source, dimensions)
    }
    return source
  }

  /// A parameter that the model may have.
  mutating func optional(_ source: SourceTensor, _ dimensions: [Int]) -> SourceTensor? {
    guard tensors[source.name] != nil else { return nil }
    check(source, dimensions)
    return source
  }

  private mutating func check(_ source: SourceTensor, _ dimensions: [Int]) {
    guard let entry = tensors[source.name] else { return }
    let shape = source.shape(ofNamed: entry.shape)
    if shape?.dimensions != dimensions {
      let of = shape == nil ? ": \(source) cannot be taken of it" : ", not \(dimensions)"
      problems.append("'\(source.name)' is \(shape ?? entry.shape)\(of)")
    } else if !entry.elementType.isConvertibleFloat {
      problems.append("'\(source.name)' has elements \(entry.elementType.rawValue)")
    }
  }

  // MARK: Nodes

  /// Appends a node and gives its name back.
  @discardableResult
  mutating func add(_ name: String, _ operation: Operation, _ inputs: String...) -> String {
    nodes.append(Node(name, operation, inputs: inputs))
    return name
  }

  /// A linear called `name` with `<name>.weight`, or another `weight`, and, where the checkpoint has
  /// it or `needsBias`, `<name>.bias`.
  mutating func linear(
    _ name: String, _ input: String, _ inFeatures: Int, _ outFeatures: Int, weight: SourceTensor? = nil,
    needsBias: Bool = false, role: Linear.Role = .block
  ) -> String {
    let weight = required(weight ?? "\(name).weight", [outFeatures, inFeatures])
    let bias =
      needsBias
      ? required("\(name).bias", [outFeatures]) : optional("\(name).bias", [outFeatures])
    let linear = Linear(
      weight: weight, bias: bias, inFeatures: inFeatures, outFeatures: outFeatures, role: role)
    return add(name, .linear(linear), input)
  }

  /// A linear whose weight is `<name>.weight` where the checkpoint has that,
  /// else the table of an embedding, which is tied to it.
  mutating func head(
    _ name: String, _ input: String, _ inFeatures: Int, _ outFeatures: Int, table: SourceTensor,
    bias: SourceTensor? = nil
  ) -> String {
    let dimensions = [outFeatures, inFeatures]
    let weight = optional("\(name).weight", dimensions) ?? required(table, dimensions)
    let linear = Linear(
      weight: weight, bias: bias ?? optional("\(name).bias", [outFeatures]),
      inFeatures: inFeatures, outFeatures: outFeatures, role: .head)
    return add(name, .linear(linear), input)
  }

  mutating func embedding(
    _ name: String, _ ids: String, rowCount: Int, size: Int, rowOffset: Int = 0
  ) -> String {
    let table = required("\(name).weight", [rowCount, size])
    return add(
      name,
      .embedding(Embedding(table: table, rowCount: rowCount, size: size, rowOffset: rowOffset)),
      ids)
  }

  /// A LayerNorm called `name`; without parameters where the model has none.
  /// Old checkpoints call its parameters gamma and beta.
  mutating func layerNorm(
    _ name: String, _ input: String, size: Int, epsilon: Float, hasParameters: Bool = true
  ) -> String {
    var gamma = optional("\(name).weight", [size]) ?? optional("\(name).gamma", [size])
    if hasParameters && gamma == nil { gamma = required("\(name).weight", [size]) }
    var beta = optional("\(name).bias", [size]) ?? optional("\(name).beta", [size])
    if hasParameters && beta == nil { beta = required("\(name).bias", [size]) }
    let norm = Norm(gamma: gamma, beta: beta, epsilon: epsilon, size: size)
    return add(name, .layerNorm(norm), input)
  }

  /// An RMSNorm called `name`.
  mutating func rmsNorm(_ name: String, _ input: String, size: Int, epsilon: Float) -> String {
    let norm = Norm(
      gamma: required("\(name).weight", [size]), beta: optional("\(name).bias", [size]),
      epsilon: epsilon, size: size)
    return add(name, .rmsNorm(norm), input)
  }

  /// An RMSNorm called `name` over each head: its gain, `<name>.weight`, has the channels of one.
  mutating func headNorm(
    _ name: String, _ input: String, headSize: Int, headCount: Int, epsilon: Float
  ) -> String {
    let norm = Norm(
      gamma: required("\(name).weight", [headSize]), beta: nil, epsilon: epsilon, size: headCount * headSize,
      groupSize: headSize)
    return add(name, .rmsNorm(norm), input)
  }

  // MARK: The result

  /// Throws what is wrong with the tensors, the first eight faults together.
  func checkTensors() throws {
    guard !problems.isEmpty else { return }
    var message = problems.prefix(8).joined(separator: "; ")
    if problems.count > 8 { message += "; and \(problems.count - 8) more" }
    throw Refusal(
      "family-tensors", message, file: tensors.file,
      remedy: "check that config.json belongs to this checkpoint and that no shard is absent")
  }
}

extension TensorCatalog {
  /// The first prefix with which a tensor `<prefix><name>` exists; the first of all otherwise.
  func prefix(of prefixes: [String], with name: String) -> String {
    prefixes.first { entries[$0 + name] != nil } ?? prefixes[0]
  }

  /// Rows and columns of a matrix.
  ///
  /// - Throws: `Refusal` (`family-tensors`) where it is absent or no matrix.
  func matrix(_ name: String) throws -> (rows: Int, columns: Int) {
    guard let dimensions = dimensions(name) else {
      throw Refusal("family-tensors", "'\(name)' is missing", file: file)
    }
    guard dimensions.count == 2,
      dimensions.allSatisfy({ (1...GraphValidation.maximumSize).contains($0) })
    else {
      throw Refusal("family-tensors", "'\(name)' is \(dimensions), no matrix", file: file)
    }
    return (dimensions[0], dimensions[1])
  }

  /// Layers of the model: what the configuration says, unless the checkpoint has fewer.
  func layerCount(prefix: String, configured: Int?) throws -> Int {
    let found = layerCount(prefix: prefix)
    guard let configured else { return found }
    guard configured <= found else {
      throw Refusal(
        "family-tensors",
        "the configuration has \(configured) layers, the checkpoint \(found) ('\(prefix)…')",
        file: file, remedy: "check that no shard is absent")
    }
    return configured
  }
}
