import OTFoundation

/// Collects the nodes of a graph while it checks that the checkpoint has their tensors.
///
/// Missing tensors and wrong shapes are gathered and refused together.
package struct GraphBuilder {
  /// The presence of a linear's bias.
  enum Bias {
    /// The model must have it.
    case required
    /// The model has it where the checkpoint has it.
    case optional
    /// The configuration denies it: one in the checkpoint is ignored, as transformers does.
    case denied

    /// Nobody says that the model has it: one in the checkpoint is refused (`TensorAccount`), since it may
    /// be another model's.
    case unstated

    /// `required` or `denied`, by a flag that is present in a configuration.
    init(_ flag: Bool) { self = flag ? .required : .denied }

    /// By the flag `key`: `unstated` where a configuration leaves it out; without a configuration, the
    /// checkpoint decides (`optional`).
    init(_ configuration: Configuration, _ key: String) throws {
      if let flag = try configuration.flag(key) {
        self.init(flag)
      } else {
        self = configuration.isPresent ? .unstated : .optional
      }
    }
  }

  /// The names and shapes of the checkpoint's tensors.
  let tensors: TensorCatalog
  /// The content of config.json.
  let configuration: Configuration
  /// The prefix of the names of the family's tensors in this checkpoint.
  let prefix: String

  private(set) var nodes: [Node] = []
  /// Tensors that the configuration denies and the checkpoint has.
  private(set) var ignored: [String] = []
  /// Layers of the model.
  private(set) var layerCount = 0
  /// The model's outputs: `logits`, `hidden`, `pooled`, `class_logits` or `token_class_logits` → node.
  var outputs: [String: String] = [:]
  /// Rows of the token embedding.
  var vocabularySize: Int?
  /// The most tokens of a sequence.
  var contextLength: Int?
  /// Members of config.json without which the graph cannot be executed.
  var missing: [String] = []
  private var problems: [String] = []

  init(_ tensors: TensorCatalog, configuration: Configuration, prefix: String) {
    self.tensors = tensors
    self.configuration = configuration
    self.prefix = prefix
  }

  /// Finds how many layers the model has, called `<layers><index>.…`: what the configuration says, which
  /// the checkpoint must have.
  mutating func countLayers(_ layers: String, configured: Int?) throws -> Range<Int> {
    layerCount = try tensors.layerCount(prefix: layers, configured: configured)
    return 0..<layerCount
  }

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

  /// Parts of a tensor that stand one below the other, `[sizes[i], columnCount]` each, which fill it.
  mutating func parts(of name: String, _ sizes: [Int], columnCount: Int) -> [SourceTensor] {
    let whole = required(.named(name), [sizes.reduce(0, +), columnCount])
    var first = 0
    return sizes.map { size in
      defer { first += size }
      return .rows(of: whole, first..<first + size)
    }
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
    add(name, operation, inputs: inputs)
  }

  /// The same with any number of inputs.
  mutating func add(_ name: String, _ operation: Operation, inputs: [String]) -> String {
    nodes.append(Node(name, operation, inputs: inputs))
    return name
  }

  /// A linear called `name` with `<name>.weight`, or another `weight`, and `<name>.bias`, or another `biasSource`;
  /// that of an expert, by its index and the node of the router, has rows for the expert's tokens.
  mutating func linear(
    _ name: String, _ input: String, _ inFeatures: Int, _ outFeatures: Int, weight: SourceTensor? = nil,
    bias: Bias = .optional, biasSource: SourceTensor? = nil, role: Linear.Role = .block,
    expert: (index: Int, router: String)? = nil
  ) -> String {
    let weight = required(weight ?? "\(name).weight", [outFeatures, inFeatures])
    let bias = parameter(biasSource ?? "\(name).bias", [outFeatures], bias)
    let linear = Linear(
      weight: weight, bias: bias, inFeatures: inFeatures, outFeatures: outFeatures, role: role,
      expert: expert?.index)
    return add(name, .linear(linear), inputs: [input] + (expert.map { [$0.router] } ?? []))
  }

  /// The linear that gives the logits, with `<name>.weight`. Where the model ties it to the table of an
  /// embedding, the table is the weight of a checkpoint without that.
  mutating func head(
    _ name: String, _ input: String, _ inFeatures: Int, _ outFeatures: Int, table: SourceTensor, isTied: Bool,
    bias: Bias = .optional, biasSource: SourceTensor? = nil
  ) -> String {
    let dimensions = [outFeatures, inFeatures]
    let own = isTied ? optional("\(name).weight", dimensions) : required("\(name).weight", dimensions)
    let linear = Linear(
      weight: own ?? required(table, dimensions), bias: parameter(biasSource ?? "\(name).bias", [outFeatures], bias),
      inFeatures: inFeatures, outFeatures: outFeatures, role: .head)
    return add(name, .linear(linear), input)
  }

  /// True when the model ends in an output head called `name`: it has the weight, or ties it, or is said to be a
  /// causal language model.
  func hasHead(_ name: String, isTied: Bool) -> Bool {
    if tensors["\(name).weight"] != nil || isTied { return true }
    guard let architecture = configuration.value("architectures")?.array?.first?.string else { return true }
    return ["ForCausalLM", "LMHeadModel"].contains(where: architecture.hasSuffix)
  }

  private mutating func parameter(_ source: SourceTensor, _ dimensions: [Int], _ bias: Bias) -> SourceTensor? {
    switch bias {
    case .required: return required(source, dimensions)
    case .optional: return optional(source, dimensions)
    case .denied:
      ignore(source.name)
      return nil
    case .unstated: return nil
    }
  }

  /// Says that the model has no such tensor, though the checkpoint may.
  mutating func ignore(_ name: String) {
    if tensors[name] != nil { ignored.append(name) }
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
  ///
  /// - Parameters:
  ///   - bias: whether it has an offset, where it has parameters.
  ///   - offset: added to its gain.
  mutating func layerNorm(
    _ name: String, _ input: String, size: Int, epsilon: Float, hasParameters: Bool = true, bias: Bias = .required,
    offset: Float = 0
  ) -> String {
    var gamma = optional("\(name).weight", [size]) ?? optional("\(name).gamma", [size])
    if hasParameters && gamma == nil { gamma = required("\(name).weight", [size]) }
    if offset != 0 { gamma = gain(name, size, offset) }
    var beta: SourceTensor?
    if case .required = bias {
      beta = optional("\(name).bias", [size]) ?? optional("\(name).beta", [size])
      if hasParameters && beta == nil { beta = required("\(name).bias", [size]) }
    } else {
      beta = parameter("\(name).bias", [size], bias)
    }
    let norm = Norm(gamma: gamma, beta: beta, epsilon: epsilon, size: size)
    return add(name, .layerNorm(norm), input)
  }

  /// An RMSNorm called `name`; it has a gain alone, `<name>.weight` plus `offset`.
  mutating func rmsNorm(
    _ name: String, _ input: String, size: Int, epsilon: Float, offset: Float = 0
  ) -> String {
    let norm = Norm(gamma: gain(name, size, offset), beta: nil, epsilon: epsilon, size: size)
    return add(name, .rmsNorm(norm), input)
  }

  /// An RMSNorm called `name` over each head: its gain, `<name>.weight` plus `offset`, has the channels of one.
  mutating func headNorm(
    _ name: String, _ input: String, headSize: Int, headCount: Int, epsilon: Float, offset: Float = 0
  ) -> String {
    let norm = Norm(
      gamma: gain(name, headSize, offset), beta: nil, epsilon: epsilon, size: headCount * headSize,
      groupSize: headSize)
    return add(name, .rmsNorm(norm), input)
  }

  /// A LayerNorm called `name` over each head, whose gain has the channels of one head, or of each where heads have
  /// `ownGains`.
  mutating func headLayerNorm(
    _ name: String, _ input: String, headSize: Int, headCount: Int, epsilon: Float, ownGains: Bool = false,
    bias: Bias = .denied
  ) -> String {
    let dimensions = ownGains ? [headCount, headSize] : [headSize]
    let norm = Norm(
      gamma: required("\(name).weight", dimensions), beta: parameter("\(name).bias", dimensions, bias),
      epsilon: epsilon, size: headCount * headSize, groupSize: headSize, hasOwnGains: ownGains)
    return add(name, .layerNorm(norm), input)
  }

  /// The same without offset, with a tensor for the gain of each head: `<name>.norms.<head>.weight`.
  mutating func separateHeadNorms(
    _ name: String, _ input: String, headSize: Int, headCount: Int, epsilon: Float
  ) -> String {
    let gains = (0..<headCount).map { required(.named("\(name).norms.\($0).weight"), [headSize]) }
    let norm = Norm(
      gamma: nil, beta: nil, epsilon: epsilon, size: headCount * headSize, groupSize: headSize, hasOwnGains: true,
      groupGains: gains)
    return add(name, .layerNorm(norm), input)
  }

  private mutating func gain(_ name: String, _ size: Int, _ offset: Float) -> SourceTensor {
    let weight = SourceTensor.named("\(name).weight")
    return required(offset == 0 ? weight : .plus(weight, offset), [size])
  }

  // MARK: The result

  /// Throws what is wrong with the tensors, the first eight faults together.
  func checkTensors() throws {
    guard !problems.isEmpty else { return }
    var message = problems.prefix(8).joined(separator: "; ")
    if problems.count > 8 { message += "; and \(problems.count - 8) more" }
    throw Refusal(
      "family-tensors", message, file: tensors.file,
      remedy: "check that config.json belongs to this checkpoint and that no shard is absent; \(Families.withoutGraph)")
  }
}

extension TensorCatalog {
  /// Rows and columns of a matrix.
  ///
  /// - Throws: `Refusal` (`family-tensors`) where it is absent or no matrix.
  func matrix(_ name: String) throws -> (rows: Int, columns: Int) {
    guard let dimensions = dimensions(name) else {
      throw Refusal(
        "family-tensors", "'\(name)' is missing", file: file,
        remedy: "check that config.json belongs to this checkpoint; \(Families.withoutGraph)")
    }
    guard dimensions.count == 2,
      dimensions.allSatisfy({ (1...GraphValidation.maximumSize).contains($0) })
    else {
      throw Refusal(
        "family-tensors", "'\(name)' is \(dimensions), no matrix", file: file, remedy: Families.withoutGraph)
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
        file: file, remedy: "check that no shard is absent; \(Families.withoutGraph)")
    }
    return configured
  }
}
