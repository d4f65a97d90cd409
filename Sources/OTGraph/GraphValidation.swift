import OTFoundation

/// The checks that make a list of nodes a graph, and what they find out.
struct GraphValidation {
  private(set) var indices: [String: Int] = [:]
  private(set) var channelCounts: [Int] = []
  private(set) var consumers: [String: [String]] = [:]
  /// The rows of each value.
  private(set) var valueRows: [ValueRows] = []

  /// The largest dimension accepted: products of two of them fit in an Int.
  static let maximumSize = 1 << 31

  /// The most affine nodes that may stand one behind another. Migration puts a
  /// second one behind a first only where something else reads the first.
  static let maximumAffineChain = 8

  private let isComplete: Bool
  private let file: String?

  init(
    nodes: [Node], outputs: [String: String], vocabularySize: Int?, isComplete: Bool, file: String?
  ) throws {
    self.isComplete = isComplete
    self.file = file
    channelCounts.reserveCapacity(nodes.count)
    var affineCounts: [String: Int] = [:]
    for (index, node) in nodes.enumerated() {
      guard PrintableName.fault(of: node.name) == nil else {
        throw refusal("name", "node \(index) has an empty, overlong or unprintable name")
      }
      guard indices[node.name] == nil else {
        throw refusal("name", "two nodes are called '\(node.name)'")
      }
      var inputs: [Int] = []
      for name in node.inputs {
        // Found by what looks alike; the bytes are compared here, where the compiler knows both types: each site that
        // is migrated validates every node.
        guard let input = indices[name], nodes[input].name.utf8.elementsEqual(name.utf8) else {
          throw refusal("input", "'\(node.name)' reads '\(name)', which no earlier node gives")
        }
        inputs.append(channelCounts[input])
        consumers[name, default: []].append(node.name)
      }
      let inputCount = node.operation.body.inputCount
      guard inputs.count == inputCount else {
        throw refusal("input", "'\(node.name)' has \(inputs.count) inputs, not \(inputCount)")
      }
      channelCounts.append(try channelCount(of: node, inputs: inputs))
      valueRows.append(try rows(of: node))
      if case .affine = node.operation {
        let count = (affineCounts[node.inputs[0]] ?? 0) + 1
        guard count <= GraphValidation.maximumAffineChain else {
          throw refusal("affine", "'\(node.name)' ends a chain of \(count) affine nodes")
        }
        affineCounts[node.name] = count
      }
      indices[node.name] = index
    }
    guard !outputs.isEmpty else { throw refusal("output", "the graph has no output") }
    for (output, name) in outputs.sorted(by: { $0.key < $1.key }) {
      guard let index = indices[name], nodes[index].name.hasSameBytes(as: name), channelCounts[index] > 0 else {
        throw refusal("output", "output '\(output)' is '\(name)', which is not a value of the graph")
      }
      let wanted = GraphValidation.outputRows[output].map { [$0] } ?? [.tokens, .sequences]
      guard wanted.contains(valueRows[index]) else {
        let words = wanted.map(\.description).joined(separator: " or ")
        throw refusal("rows", "output '\(output)' is '\(name)', which has \(valueRows[index]), not \(words)")
      }
      // Who reads logits looks tokens up in them.
      if output == "logits", let vocabularySize, channelCounts[index] != vocabularySize {
        throw refusal(
          "vocabulary", "'\(name)' gives \(channelCounts[index]) logits, the vocabulary has \(vocabularySize) tokens")
      }
      if output == "span_logits", channelCounts[index] != 2 {
        throw refusal("channels", "'\(name)' gives \(channelCounts[index]) scores, not those of a start and an end")
      }
    }
  }

  /// The rows of the outputs that have a meaning.
  private static let outputRows: [String: ValueRows] = [
    "logits": .tokens, "hidden": .tokens, "pooled": .sequences, "class_logits": .sequences,
    "token_class_logits": .tokens, "span_logits": .tokens,
  ]

  /// The rows of a node's value, once its inputs' fit each other.
  private func rows(of node: Node) throws -> ValueRows {
    do {
      return try node.operation.body.rows(node.inputs.compactMap { indices[$0] }.map { valueRows[$0] }, of: node.name)
    } catch let fault as OperationFault {
      throw refusal("rows", "'\(node.name)' \(fault.message)")
    }
  }

  private func refusal(_ rule: String, _ message: String) -> Refusal {
    Refusal("graph-\(rule)", message, file: file)
  }

  /// Channels of a node's value, once its operation fits those of its inputs.
  private func channelCount(of node: Node, inputs: [Int]) throws -> Int {
    do {
      return try node.operation.body.channelCount(inputs: inputs, isComplete: isComplete)
    } catch let fault as OperationFault {
      throw refusal("channels", "'\(node.name)': \(fault.message)")
    }
  }
}

extension Graph {
  /// Checks the transforms of the values called `names`, and what is done with them; nil: of all.
  ///
  /// - Throws: `Refusal` with rule `graph-transform` or `graph-rotation`.
  func checkTransforms(of names: Set<String>?, file: String?) throws {
    let outputNodes = Set(outputs.values)
    let checked = names.map { names in names.sorted().compactMap { name in transforms[name].map { (name, $0) } } }
    for (name, transform) in checked ?? transforms.sorted(by: { $0.key < $1.key }).map({ ($0.key, $0.value) }) {
      func refuse(_ message: String) -> Refusal {
        Refusal("graph-transform", "the value of '\(name)': \(message)", file: file)
      }
      guard let node = self[name], let channels = channelCount(of: name) else {
        throw refuse("no node has this name")
      }
      guard node.operation.body.canCarryTransform else { throw refuse("cannot be transformed") }
      if let fault = transform.fault(channelCount: channels) { throw refuse(fault) }
      for consumer in consumers(of: name) {
        guard let reader = self[consumer], reader.operation.body.canReadTransform else {
          throw refuse("is transformed, but '\(consumer)' needs the plain value")
        }
      }
      guard !outputNodes.contains(name) else { throw refuse("is an output of the model") }
    }
    let changed = names.map(around) ?? nodes
    for node in changed where rotation(ofValue: node.name) != nil {
      for consumer in consumers(of: node.name) where self[consumer]?.operation.body.canReadRotation != true {
        throw Refusal(
          "graph-rotation", "'\(consumer)' reads '\(node.name)', but no rotated value", file: file)
      }
      guard !outputNodes.contains(node.name) else {
        throw Refusal("graph-rotation", "'\(node.name)' is an output of the model", file: file)
      }
    }
    // What has no parameters to make up for it passes on what its inputs are.
    for node in changed where ([node.name] + node.inputs).contains(where: { !transform(ofValue: $0).isIdentity }) {
      guard let expected = try passedOn(by: node, file: file) else { continue }
      guard expected.isSame(as: transforms[node.name] ?? .identity) else {
        throw Refusal(
          "graph-transform", "the value of '\(node.name)': is transformed otherwise than its input", file: file)
      }
    }
  }

  /// The nodes of these names and those that read their values, also through nodes on the edge.
  private func around(_ names: Set<String>) -> [Node] {
    var (found, open) = (names, Array(names))
    while let name = open.popLast() {
      for reader in consumers(of: name) where found.insert(reader).inserted {
        if self[reader]?.operation.kind == .edge { open.append(reader) }
      }
    }
    return found.sorted().compactMap { self[$0] }
  }

  /// The transform that the inputs of a node without parameters give its value;
  /// nil for other nodes, which can have any.
  private func passedOn(by node: Node, file: String?) throws -> ChannelTransform? {
    do {
      return try node.operation.body.passedOn(
        node.inputs.map(transform(ofValue:)), channelCount: channelCount(of: node.name) ?? 0)
    } catch let fault as OperationFault {
      throw Refusal("graph-transform", "the input of '\(node.name)': \(fault.message)", file: file)
    }
  }

  func checkActivations(file: String?) throws {
    for (name, quantization) in activations.sorted(by: { $0.key < $1.key }) {
      guard isSiteProducer(name) else {
        throw Refusal("graph-activation", "'\(name)' feeds no linear of a block", file: file)
      }
      guard let bits = quantization.bits else { continue }
      guard (2...8).contains(bits) else {
        throw Refusal("graph-activation", "'\(name)' has \(bits) bits, not 2...8", file: file)
      }
      if let size = quantization.groupSize, !ActivationQuantization.groupSizes.contains(size) {
        let sizes = ActivationQuantization.groupSizes.map(String.init).joined(separator: ", ")
        throw Refusal(
          "graph-activation", "'\(name)' has groups of \(size) channels", file: file,
          remedy: "groups of activations have one of \(sizes) channels")
      }
      let largest = 1 << (bits - 1)
      guard (-largest..<largest).contains(quantization.zero) else {
        throw Refusal("graph-activation", "'\(name)' has no code \(quantization.zero) for 0", file: file)
      }
    }
  }
}
