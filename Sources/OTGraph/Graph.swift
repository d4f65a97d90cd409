import OTFoundation

/// One node of a graph: an operation on the values of other nodes.
package struct Node: Sendable, Hashable {
  /// Unique; the checkpoint's module name where there is one:
  /// `model.decoder.layers.0.fc1`.
  package let name: String
  /// The operation of the node.
  package let operation: Operation
  /// Names of the nodes whose values it reads, all of them earlier in the graph.
  package let inputs: [String]

  /// A node that applies `operation` to the values of `inputs`.
  package init(_ name: String, _ operation: Operation, inputs: [String] = []) {
    self.name = name
    self.operation = operation
    self.inputs = inputs
  }
}

/// The quantization of a site's activation when the model runs.
package enum ActivationQuantization: Sendable, Hashable {
  /// Not at all.
  case float
  /// One scale per token, or per `groupSize` consecutive channels of a token, found when the model runs.
  case dynamic(bits: Int, groupSize: Int? = nil)
  /// One scale and one code of 0 per token, or per `groupSize` consecutive channels of a token, found when the model runs
  /// from their minimum and maximum.
  case asymmetric(bits: Int, groupSize: Int? = nil)
  /// Scales found by calibration and folded into the weights: a code is the
  /// value rounded and clamped. `zero` is the code that stands for 0 where a range is not symmetric:
  /// the part −zero · scale of the value's shift is taken back with the weights as they are rounded.
  case `static`(bits: Int, zero: Int = 0)
}

/// A model as a list of typed operations in execution order, whose parameters
/// are names of a checkpoint's tensors.
///
/// Every value of this type is valid: names are unique, inputs exist and come
/// first, channel counts and rows agree, transforms fit, and there is a logit
/// for each token of the vocabulary. It holds no weights.
package struct Graph: Sendable {
  /// The family that the graph was built by: `opt`, `bloom`, `llama`, `bert`.
  package let family: String
  /// The nodes, in an order in which they can be executed.
  package private(set) var nodes: [Node]
  /// The model's outputs: `logits`, `hidden`, `pooled`, `class_logits`, `token_class_logits` or `span_logits` → node.
  package let outputs: [String: String]
  /// The transforms that migration put on the values of nodes. For an `affine` node this
  /// is what the node itself does, on top of its input's transform; see
  /// `transform(ofValue:)`.
  package private(set) var transforms: [String: ChannelTransform]
  /// The quantization of sites, by the name of the site's producer. Sites that
  /// are not listed stay in floating point.
  package private(set) var activations: [String: ActivationQuantization]
  /// Rows of the token embedding.
  package let vocabularySize: Int?
  /// The most tokens of a sequence; nil where the model sets no limit.
  package let contextLength: Int?
  /// Facts that the source does not state (no config.json beside the checkpoint) or
  /// are not supported; while there are any, the graph cannot be executed.
  package let missing: [String]

  private(set) var indices: [String: Int]
  private(set) var channelCounts: [Int]
  private(set) var valueRows: [ValueRows]
  private(set) var consumersByName: [String: [String]]
  let useCounts: [SourceTensor: Int]

  /// A validated graph.
  ///
  /// - Parameter file: named in refusals.
  /// - Throws: `Refusal` with a rule `graph-…`.
  package init(
    family: String, nodes: [Node], outputs: [String: String],
    transforms: [String: ChannelTransform] = [:],
    activations: [String: ActivationQuantization] = [:],
    vocabularySize: Int? = nil, contextLength: Int? = nil, missing: [String] = [],
    file: String? = nil
  ) throws {
    let validation = try GraphValidation(
      nodes: nodes, outputs: outputs, vocabularySize: vocabularySize, isComplete: missing.isEmpty, file: file)
    self.family = family
    self.nodes = nodes
    self.outputs = outputs
    self.transforms = transforms.filter { !$0.value.isIdentity }
    self.activations = activations
    self.vocabularySize = vocabularySize
    self.contextLength = contextLength
    self.missing = missing
    indices = validation.indices
    channelCounts = validation.channelCounts
    valueRows = validation.valueRows
    consumersByName = validation.consumers
    useCounts = nodes.flatMap(\.operation.tensors).reduce(into: [:]) { $0[$1, default: 0] += 1 }
    try checkTransforms(of: nil, file: file)
    try checkActivations(file: file)
  }

  /// The node called `name`.
  package subscript(name: String) -> Node? { indices[name].map { nodes[$0] } }

  /// Channels of the value of the node called `node`: 0 for IDs, nil where
  /// there is no such node.
  package func channelCount(of node: String) -> Int? { indices[node].map { channelCounts[$0] } }

  /// The rows of the value of the node called `node`; nil where there is no such node.
  package func rows(of node: String) -> ValueRows? { indices[node].map { valueRows[$0] } }

  /// True when a token sees only those before it, so that the model can continue a text.
  package var isCausal: Bool {
    nodes.allSatisfy { node in
      guard case .attention(let attention) = node.operation else { return true }
      return attention.isCausal
    }
  }

  /// True when tokens for padding take no position, so that positions depend on all tokens before.
  package var countsPositions: Bool {
    nodes.contains { if case .countedPositionIDs = $0.operation { true } else { false } }
  }

  /// The outputs that score candidates: tokens, classes of sequences, classes of tokens, starts and ends of answers.
  /// Of a model with several, the first is what it is for.
  package static let scoreOutputs = ["logits", "class_logits", "token_class_logits", "span_logits"]

  /// The value of each token behind the last layer and its norm: the output `hidden`, else what the head
  /// that gives the logits reads; nil where neither is there.
  package var hiddenNode: String? {
    if let hidden = outputs["hidden"] { return hidden }
    var name = outputs["logits"]
    while let node = name.flatMap({ self[$0] }) {
      switch node.operation {
      case .linear: return node.inputs[0]
      case .scale, .softCap: name = node.inputs[0]
      default: return nil
      }
    }
    return nil
  }

  /// True when the model tells segments of tokens apart.
  package var readsTokenTypes: Bool { nodes.contains { $0.operation == .tokenTypeIDs } }

  /// The nodes that read the value of `node`, in order; a node that reads it
  /// twice is listed twice.
  package func consumers(of node: String) -> [String] { consumersByName[node] ?? [] }

  /// All that has been done to the value of `node`: the entry of `transforms`;
  /// for an `affine` node, its input's followed by its own; for a `rotation`, its input's,
  /// after which it is rotated.
  package func transform(ofValue node: String) -> ChannelTransform {
    var chain: [ChannelTransform] = []
    var name = node
    while let current = self[name] {
      if let own = transforms[name] { chain.append(own) }
      guard current.operation.kind == .edge else { break }
      name = current.inputs[0]
    }
    return chain.reversed().reduce(.identity) { $0.followed(by: $1) }
  }

  /// The rotation of the value of `node` after `transform(ofValue:)`; nil where there is none.
  package func rotation(ofValue node: String) -> Rotation? {
    guard case .rotation(let rotation)? = self[node]?.operation else { return nil }
    return rotation
  }

  /// The same graph with other activation quantizations.
  ///
  /// - Throws: `Refusal` (`graph-activation`) for a name that is no site's
  ///   producer or a bit width outside 2...8.
  package func quantizing(_ activations: [String: ActivationQuantization]) throws -> Graph {
    try replacing(activations: activations)
  }

  /// The same graph with some parts replaced, validated again.
  func replacing(
    nodes: [Node]? = nil, transforms: [String: ChannelTransform]? = nil,
    activations: [String: ActivationQuantization]? = nil
  ) throws -> Graph {
    try Graph(
      family: family, nodes: nodes ?? self.nodes, outputs: outputs,
      transforms: transforms ?? self.transforms, activations: activations ?? self.activations,
      vocabularySize: vocabularySize, contextLength: contextLength, missing: missing)
  }
}

extension Graph {
  /// A node that gives what another gives, changed, and that linears of a site read in the place of that.
  struct Edge {
    let node: Node
    /// The linears, in execution order.
    let readers: [String]
  }

  /// The same graph with nodes between values and the linears that read them, each in front of the first of these, and
  /// with other transforms of some values. What is checked is what changes: a model of many experts has as many sites.
  ///
  /// - Throws: `Refusal` with rule `graph-name`, `graph-affine`, `graph-transform` or `graph-rotation`.
  func inserting(_ edges: [Edge], changing changed: [String: ChannelTransform] = [:]) throws -> Graph {
    var graph = self
    for (name, transform) in changed { graph.transforms[name] = transform.isIdentity ? nil : transform }
    if !edges.isEmpty { try graph.insert(edges) }
    try graph.checkTransforms(of: Set(changed.keys).union(edges.map(\.node.name)), file: nil)
    return graph
  }

  private mutating func insert(_ edges: [Edge]) throws {
    var firsts: [String: Edge] = [:]
    var inputs: [String: String] = [:]
    for edge in edges {
      let (node, source) = (edge.node, edge.node.inputs[0])
      guard PrintableName.fault(of: node.name) == nil, indices[node.name] == nil,
        consumersByName.updateValue(edge.readers, forKey: node.name) == nil
      else { throw Refusal("graph-name", "'\(node.name)' is the name of another node, or none") }
      firsts[edge.readers[0]] = edge
      for reader in edge.readers { inputs[reader] = node.name }
      let others = Set(edge.readers.dropFirst())
      consumersByName[source] = consumers(of: source).filter { !others.contains($0) }
        .map { $0 == edge.readers[0] ? node.name : $0 }
      if let quantization = activations.removeValue(forKey: source) { activations[node.name] = quantization }
    }
    let (old, counts, rows, places) = (nodes, channelCounts, valueRows, indices)
    (nodes, channelCounts, valueRows) = ([], [], [])
    nodes.reserveCapacity(old.count + edges.count)
    indices.reserveCapacity(old.count + edges.count)
    func append(_ node: Node, _ place: Int) {
      indices[node.name] = nodes.count
      nodes.append(node)
      channelCounts.append(counts[place])
      valueRows.append(rows[place])
    }
    for (place, node) in old.enumerated() {
      if let edge = firsts[node.name], let source = places[edge.node.inputs[0]] { append(edge.node, source) }
      guard let input = inputs[node.name] else {
        append(node, place)
        continue
      }
      append(Node(node.name, node.operation, inputs: [input] + node.inputs.dropFirst()), place)
    }
    for edge in edges where edge.node.operation == .affine { try checkChain(of: edge.node) }
  }

  /// - Throws: `Refusal` with rule `graph-affine` where too many affine nodes stand one behind another.
  private func checkChain(of node: Node) throws {
    var (count, current) = (1, node)
    while let before = self[current.inputs[0]], before.operation == .affine { (count, current) = (count + 1, before) }
    guard count <= GraphValidation.maximumAffineChain else {
      throw Refusal("graph-affine", "'\(node.name)' ends a chain of \(count) affine nodes")
    }
  }
}

extension Graph: Equatable {
  /// True when both describe the same model with the same transforms.
  package static func == (a: Graph, b: Graph) -> Bool {
    a.family == b.family && a.nodes == b.nodes && a.outputs == b.outputs
      && a.transforms == b.transforms && a.activations == b.activations
      && a.vocabularySize == b.vocabularySize && a.contextLength == b.contextLength
      && a.missing == b.missing
  }
}

extension ActivationQuantization {
  /// The quantization of an activation, in words: `static int6`, `float`.
  package var storageDescription: String {
    switch self {
    case .float: "float"
    case .dynamic(let bits, let groupSize): "dynamic int\(bits)" + (groupSize.map { ", groups of \($0)" } ?? "")
    case .asymmetric(let bits, let groupSize):
      "dynamic int\(bits), asymmetric" + (groupSize.map { ", groups of \($0)" } ?? "")
    case .static(let bits, _): "static int\(bits)"
    }
  }

  /// The code that stands for 0; 0 where none is another's.
  var zero: Int {
    guard case .static(_, let zero) = self else { return 0 }
    return zero
  }

  /// Bits of the integers; nil where the activation stays in floating point.
  package var bits: Int? {
    switch self {
    case .float: nil
    case .dynamic(let bits, _), .asymmetric(let bits, _), .static(let bits, _): bits
    }
  }

  /// Channels that share a scale found when the model runs; nil: all of a token.
  package var groupSize: Int? {
    switch self {
    case .dynamic(_, let groupSize), .asymmetric(_, let groupSize): return groupSize
    case .float, .static: return nil
    }
  }

  /// Channels that may share a scale: the kernels' products are made for these.
  package static let groupSizes = [32, 64, 128, 256]
}
