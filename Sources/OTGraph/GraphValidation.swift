import OTFoundation

/// The checks that make a list of nodes a graph, and what they find out.
struct GraphValidation {
  private(set) var indices: [String: Int] = [:]
  private(set) var channelCounts: [Int] = []
  private(set) var consumers: [String: [String]] = [:]
  /// Whether a value has a row for each sequence, not for each token.
  private var areOfSequences: [Bool] = []

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
      guard GraphValidation.isUsableName(node.name) else {
        throw refusal("name", "node \(index) has an empty, overlong or unprintable name")
      }
      guard indices[node.name] == nil else {
        throw refusal("name", "two nodes are called '\(node.name)'")
      }
      var inputs: [Int] = []
      for name in node.inputs {
        guard let input = indices[name], nodes[input].name.hasSameBytes(as: name) else {
          throw refusal("input", "'\(node.name)' reads '\(name)', which no earlier node gives")
        }
        inputs.append(channelCounts[input])
        consumers[name, default: []].append(node.name)
      }
      guard inputs.count == node.operation.inputCount else {
        throw refusal(
          "input", "'\(node.name)' has \(inputs.count) inputs, not \(node.operation.inputCount)")
      }
      channelCounts.append(try channelCount(of: node, inputs: inputs))
      areOfSequences.append(try isOfSequences(node))
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
        throw refusal("output", "output '\(output)' is '\(name)', which is no value of the graph")
      }
      if let isOfSequences = GraphValidation.outputRows[output], areOfSequences[index] != isOfSequences {
        let (own, wanted) = isOfSequences ? ("token", "sequence") : ("sequence", "token")
        throw refusal("rows", "output '\(output)' is '\(name)', which has a row for each \(own), not \(wanted)")
      }
      // Who reads logits looks tokens up in them.
      if output == "logits", let vocabularySize, channelCounts[index] != vocabularySize {
        throw refusal(
          "vocabulary", "'\(name)' gives \(channelCounts[index]) logits, the vocabulary has \(vocabularySize) tokens")
      }
    }
  }

  /// Whether the outputs that have a meaning are of sequences.
  private static let outputRows = ["logits": false, "hidden": false, "pooled": true]

  /// Whether a node's value has a row for each sequence, once its inputs' rows fit each other.
  private func isOfSequences(_ node: Node) throws -> Bool {
    let inputs = node.inputs.compactMap { indices[$0] }.map { areOfSequences[$0] }
    switch node.operation {
    case .firstToken, .attention:
      guard !inputs.contains(true) else { throw refusal("rows", "'\(node.name)' needs a row for each token") }
    default:
      guard Set(inputs).count < 2 else {
        throw refusal("rows", "'\(node.name)' joins rows of tokens with rows of sequences")
      }
    }
    return node.operation == .firstToken || inputs.contains(true)
  }

  static func isUsableName(_ name: String) -> Bool {
    !name.isEmpty && name.utf8.count <= 4096
      && name.unicodeScalars.allSatisfy { $0.value >= 0x20 && !(0x7F...0x9F).contains($0.value) }
  }

  private func refusal(_ rule: String, _ message: String) -> Refusal {
    Refusal("graph-\(rule)", message, file: file)
  }

  /// Channels of a node's value, once its operation fits those of its inputs.
  private func channelCount(of node: Node, inputs: [Int]) throws -> Int {
    func require(_ condition: Bool, _ message: @autoclosure () -> String) throws {
      if !condition { throw refusal("channels", "'\(node.name)': \(message())") }
    }
    func requireSize(_ sizes: Int...) throws {
      try require(
        sizes.allSatisfy { (1...GraphValidation.maximumSize).contains($0) },
        "a dimension is not in 1...2^31")
    }
    func requireValue(_ channels: Int) throws {
      try require(channels > 0, "needs values, not IDs")
    }
    switch node.operation {
    case .tokenIDs, .positionIDs, .tokenTypeIDs:
      return 0
    case .embedding(let embedding):
      try requireSize(embedding.rowCount, embedding.size)
      try require(inputs[0] == 0, "needs IDs, not values")
      try require(
        (0..<embedding.rowCount).contains(embedding.rowOffset), "the row offset leaves no row")
      return embedding.size
    case .linear(let linear):
      try requireSize(linear.inFeatures, linear.outFeatures)
      try require(
        inputs[0] == linear.inFeatures, "reads \(inputs[0]) channels, not \(linear.inFeatures)")
      return linear.outFeatures
    case .layerNorm(let norm), .rmsNorm(let norm):
      try requireSize(norm.size)
      try require(inputs[0] == norm.size, "reads \(inputs[0]) channels, not \(norm.size)")
      try require(norm.epsilon.isFinite && norm.epsilon >= 0, "epsilon is \(norm.epsilon)")
      return norm.size
    case .attention(let attention):
      try inputs.forEach(requireValue)
      try require(inputs[1] == inputs[2], "keys and values differ in size")
      if let fault = fault(of: attention, queries: inputs[0], values: inputs[2]) {
        throw refusal("channels", "'\(node.name)': \(fault)")
      }
      return inputs[0]
    case .headSlice(let slice):
      try requireValue(inputs[0])
      try requireSize(slice.partCount)
      try require((0..<slice.partCount).contains(slice.part), "part \(slice.part) does not exist")
      if slice.headSize == 0 && !isComplete {
        try require(inputs[0] % slice.partCount == 0, "the parts are not equally large")
      } else {
        try requireSize(slice.headSize)
        try require(
          inputs[0] % (slice.partCount * slice.headSize) == 0, "the heads do not fill the input")
      }
      return inputs[0] / slice.partCount
    case .multiply, .add:
      try requireValue(inputs[0])
      try require(inputs[0] == inputs[1], "joins \(inputs[0]) with \(inputs[1]) channels")
      return inputs[0]
    case .activation, .firstToken, .affine:
      try requireValue(inputs[0])
      return inputs[0]
    }
  }

  private func fault(of attention: Attention, queries: Int, values: Int) -> String? {
    if attention.headCount == 0 && attention.keyValueHeadCount == 0 && attention.headSize == 0 {
      return isComplete ? "the head count is unknown, yet nothing is listed as missing" : nil
    }
    let sizes = [attention.headCount, attention.keyValueHeadCount, attention.headSize]
    guard sizes.allSatisfy({ (1...GraphValidation.maximumSize).contains($0) }) else {
      return "a head count or size is not in 1...2^31"
    }
    guard attention.headCount % attention.keyValueHeadCount == 0 else {
      return "\(attention.headCount) heads cannot share \(attention.keyValueHeadCount)"
    }
    guard queries == attention.headCount * attention.headSize,
      values == attention.keyValueHeadCount * attention.headSize
    else { return "the heads do not fill queries, keys and values" }
    guard attention.scale.isFinite, attention.scale > 0 else {
      return "the scale is \(attention.scale)"
    }
    guard case .rotary(let rotary) = attention.positions else { return nil }
    return fault(of: rotary, headSize: attention.headSize)
  }

  private func fault(of rotary: Rotary, headSize: Int) -> String? {
    guard (2...max(headSize, 2)).contains(rotary.dimensions), rotary.dimensions % 2 == 0 else {
      return "\(rotary.dimensions) channels of \(headSize) cannot be rotated"
    }
    var factors = [rotary.theta]
    switch rotary.scaling {
    case .none: break
    case .linear(let factor): factors.append(factor)
    case .llama3(let factor, let low, let high, let contextLength):
      factors += [factor, low, high, high - low, Double(contextLength)]
    }
    guard factors.allSatisfy({ $0.isFinite && $0 > 0 }) else {
      return "the rotation's numbers are unusable"
    }
    return nil
  }
}

extension Operation {
  /// How many values a node with this operation reads.
  var inputCount: Int {
    switch self {
    case .tokenIDs, .positionIDs, .tokenTypeIDs: 0
    case .embedding, .linear, .layerNorm, .rmsNorm, .headSlice, .activation, .firstToken, .affine: 1
    case .multiply, .add: 2
    case .attention: 3
    }
  }

  /// The parameters that a node with this operation takes of the checkpoint.
  var tensors: [SourceTensor] {
    switch self {
    case .embedding(let embedding): [embedding.table]
    case .linear(let linear): [linear.weight, linear.bias].compactMap { $0 }
    case .layerNorm(let norm), .rmsNorm(let norm): [norm.gamma, norm.beta].compactMap { $0 }
    default: []
    }
  }

  /// Whether migration can leave a transform on the value of such a node.
  var canCarryTransform: Bool {
    switch self {
    case .linear, .layerNorm, .rmsNorm, .attention, .headSlice, .multiply, .affine,
      .activation(.relu):
      true
    default: false
    }
  }

  /// Whether such a node knows what to do with an input that is transformed.
  var canReadTransform: Bool {
    switch self {
    case .linear, .attention, .headSlice, .multiply, .affine, .activation(.relu): true
    default: false
    }
  }
}

extension Graph {
  func checkTransforms(file: String?) throws {
    let outputNodes = Set(outputs.values)
    for (name, transform) in transforms.sorted(by: { $0.key < $1.key }) {
      func refuse(_ message: String) -> Refusal {
        Refusal("graph-transform", "the value of '\(name)': \(message)", file: file)
      }
      guard let node = self[name], let channels = channelCount(of: name) else {
        throw refuse("no node has this name")
      }
      guard node.operation.canCarryTransform else { throw refuse("cannot be transformed") }
      if let fault = transform.fault(channelCount: channels) { throw refuse(fault) }
      for consumer in consumers(of: name) {
        guard let reader = self[consumer], reader.operation.canReadTransform else {
          throw refuse("is transformed, but '\(consumer)' needs the plain value")
        }
      }
      guard !outputNodes.contains(name) else { throw refuse("is an output of the model") }
    }
    // What has no parameters to make up for it passes on what its inputs are.
    for node in nodes where ([node.name] + node.inputs).contains(where: { !transform(ofValue: $0).isIdentity }) {
      guard let expected = try passedOn(by: node, file: file) else { continue }
      guard expected.isSame(as: transforms[node.name] ?? .identity) else {
        throw Refusal(
          "graph-transform", "the value of '\(node.name)': is transformed otherwise than its input", file: file)
      }
    }
  }

  /// The transform that the inputs of a node without parameters give its value;
  /// nil for other nodes, which can have any.
  private func passedOn(by node: Node, file: String?) throws -> ChannelTransform? {
    let inputs = node.inputs.map(transform(ofValue:))
    func refuseUnless(_ isPlain: Bool, _ message: String) throws {
      guard isPlain else { throw Refusal("graph-transform", "the input of '\(node.name)': \(message)", file: file) }
    }
    switch node.operation {
    case .attention(let attention):
      guard attention.hasKnownHeads else { return nil }
      try refuseUnless(
        inputs[0].isSame(as: .identity) && inputs[1].isSame(as: .identity), "queries and keys cannot be transformed")
      return inputs[2].gathered(attention.valueChannels)
    case .headSlice(let slice):
      guard slice.headSize > 0, let count = channelCount(of: node.name) else { return nil }
      return inputs[0].gathered((0..<count).map(slice.inputChannel(of:)))
    case .activation(.relu):
      try refuseUnless(!inputs[0].shifts, "cannot be shifted")
      return inputs[0]
    case .multiply:
      try refuseUnless(!inputs[0].shifts && !inputs[1].shifts, "cannot be shifted")
      return inputs[0].followed(by: inputs[1])
    default: return nil
    }
  }

  func checkActivations(file: String?) throws {
    for (name, quantization) in activations.sorted(by: { $0.key < $1.key }) {
      guard isSiteProducer(name) else {
        throw Refusal("graph-activation", "'\(name)' feeds no linear of a block", file: file)
      }
      switch quantization {
      case .float: break
      case .dynamic(let bits), .static(let bits):
        guard (2...8).contains(bits) else {
          throw Refusal("graph-activation", "'\(name)' has \(bits) bits, not 2...8", file: file)
        }
      }
    }
  }
}
