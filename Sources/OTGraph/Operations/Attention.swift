import OTJSON

/// Softmax attention over heads, in groups that share keys and values.
///
/// Queries are `[tokens, headCount·headSize]`, keys and values
/// `[tokens, keyValueHeadCount·headSize]`, or values of `valueSize` channels a head; head `h` reads key/value head
/// `h / (headCount / keyValueHeadCount)`. Where the head count is unknown (see
/// `Graph.missing`), the three counts and the scale are 0.
package struct Attention: Sendable, Hashable {
  /// Query heads.
  package let headCount: Int
  /// Key/value heads; divides `headCount`.
  package let keyValueHeadCount: Int
  /// Channels of one head of queries and of keys.
  package let headSize: Int
  /// Channels of one head of values, and of the value of attention; usually `headSize`.
  package let valueSize: Int
  /// Factor of the products of queries and keys, usually `1/√headSize`.
  package let scale: Float
  /// Where there is one, c of `c·tanh(score / c)`, which is taken of each scaled product.
  package let softCap: Float?
  /// True when a token sees no later one.
  package let isCausal: Bool
  /// A token sees those that are less than so many tokens away, itself included: of causal attention those
  /// before it, otherwise to both sides; nil: all.
  package let window: Int?
  /// The encoding of positions.
  package let positions: Positions
  /// A score of each head, `[headCount]`, that takes part in the softmax and has no value; nil: none.
  package let sinks: SourceTensor?

  /// The encoding of positions in attention.
  package enum Positions: Sendable, Hashable {
    /// Not at all: positions are part of the embeddings.
    case none
    /// Queries and keys are rotated.
    case rotary(Rotary)
    /// A bias of `slope(head)·(key position)` on the products, with the slopes
    /// of Press et al., "Train Short, Test Long" (arXiv:2108.12409), as BLOOM
    /// computes them for head counts that are no power of 2.
    case alibi
    /// The same with slopes of its own.
    case slopes(LinearBias)
    /// A bias by distance on the products.
    case distances(DistanceTable)
  }

  /// Attention with known heads and, unless given, the scale `1/√headSize` and values as wide as keys.
  package init(
    headCount: Int, keyValueHeadCount: Int, headSize: Int, valueSize: Int? = nil, scale: Float? = nil,
    softCap: Float? = nil,
    isCausal: Bool, window: Int? = nil, positions: Positions, sinks: SourceTensor? = nil
  ) {
    self.headCount = headCount
    self.keyValueHeadCount = keyValueHeadCount
    self.headSize = headSize
    self.valueSize = valueSize ?? headSize
    self.scale = scale ?? (headSize > 0 ? 1 / Float(headSize).squareRoot() : 0)
    self.softCap = softCap
    self.isCausal = isCausal
    self.window = window
    self.positions = positions
    self.sinks = sinks
  }

  /// The same with other parameters.
  func replacing(positions: Positions, sinks: SourceTensor?) -> Attention {
    Attention(
      headCount: headCount, keyValueHeadCount: keyValueHeadCount, headSize: headSize, valueSize: valueSize,
      scale: scale,
      softCap: softCap, isCausal: isCausal, window: window, positions: positions, sinks: sinks)
  }

  /// True when the head count is known.
  package var hasKnownHeads: Bool { headCount > 0 }
}

extension Attention: OperationBody {
  /// Readers that do not know the other members refuse the second name, or that keys and values differ in size.
  var name: String {
    if case .distances = positions { return "bounded_attention" }
    return window == nil && softCap == nil && sinks == nil && valueSize == headSize ? "attention" : "bounded_attention"
  }
  var kind: Operation.Kind { .attention }
  var inputCount: Int { 3 }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try inputs.forEach(OperationFault.requireValue)
    if headCount == 0 && keyValueHeadCount == 0 && headSize == 0 {
      try OperationFault.require(inputs[1] == inputs[2], "keys and values differ in size")
      try OperationFault.require(!isComplete, "the head count is unknown, yet nothing is listed as missing")
      return inputs[0]
    }
    let sizes = [headCount, keyValueHeadCount, headSize, valueSize]
    try OperationFault.require(
      sizes.allSatisfy { (1...GraphValidation.maximumSize).contains($0) }, "a head count or size is not in 1...2^31")
    try OperationFault.require(
      headCount % keyValueHeadCount == 0, "\(headCount) heads cannot share \(keyValueHeadCount)")
    try OperationFault.require(
      inputs[0] == headCount * headSize && inputs[1] == keyValueHeadCount * headSize
        && inputs[2] == keyValueHeadCount * valueSize,
      "the heads do not fill queries, keys and values")
    try OperationFault.require(scale.isFinite && scale > 0, "the scale is \(scale)")
    if let softCap { try OperationFault.require(softCap.isFinite && softCap > 0, "the soft cap is \(softCap)") }
    if let window { try OperationFault.requireSizes(window) }
    switch positions {
    case .none, .alibi: break
    case .slopes(let bias): try bias.validate(headCount: headCount)
    case .rotary(let rotary): try rotary.validate(headSize: headSize)
    case .distances(let table): try table.validate()
    }
    return headCount * valueSize
  }

  func rows(_ inputs: [ValueRows], of node: String) throws -> ValueRows {
    try requireTokens(inputs)
    return .tokens
  }

  func parameters(input: ChannelTransform, output: ChannelTransform) -> [OperationParameter] {
    guard hasKnownHeads else { return [] }
    var parameters: [OperationParameter] = []
    if case .distances(let distances) = positions {
      parameters.append(
        OperationParameter(
          role: .distances, tensor: distances.table, dimensions: [2 * distances.starts.count, headCount]))
    }
    if let sinks { parameters.append(OperationParameter(role: .sinks, tensor: sinks, dimensions: [headCount])) }
    return parameters
  }

  // MARK: Migration: rows of the attention matrix sum to 1, so that values pass on what is done to them. With sinks
  // they sum to less, and values pass on their scale alone.

  var canCarryTransform: Bool { true }
  var canReadTransform: Bool { true }

  func passedOn(_ inputs: [ChannelTransform], channelCount: Int) throws -> ChannelTransform? {
    guard hasKnownHeads else { return nil }
    try OperationFault.require(
      inputs[0].isSame(as: .identity) && inputs[1].isSame(as: .identity), "queries and keys cannot be transformed")
    try OperationFault.require(sinks == nil || !inputs[2].shifts, "values cannot be shifted beside sinks")
    return inputs[2].gathered(valueChannels)
  }

  func push(_ transform: PushedTransform, into node: Node, of graph: Graph) -> PushStep? {
    guard hasKnownHeads, transform.channels == nil, sinks == nil || !transform.shifts else { return nil }
    return .input(node.inputs[2], readers: [node.name], channels: siteChannels)
  }

  /// Heads that share values need the same transform.
  var sharedChannels: [Int]? { headCount == keyValueHeadCount ? nil : representatives }

  private var groupWidth: Int { headCount / keyValueHeadCount * valueSize }

  /// For each value channel, the first output channel that it becomes.
  private var siteChannels: [Int?] {
    (0..<keyValueHeadCount * valueSize).map { $0 / valueSize * groupWidth + $0 % valueSize }
  }

  /// For each output channel, its value channel.
  private var valueChannels: [Int?] {
    (0..<headCount * valueSize).map { $0 / groupWidth * valueSize + $0 % valueSize }
  }

  /// For each output channel, the first one with the same value channel.
  private var representatives: [Int] {
    (0..<headCount * valueSize).map { $0 / groupWidth * groupWidth + $0 % valueSize }
  }

  // MARK: JSON

  func write(to object: inout JSONObject) {
    object["headCount"] = .integer(headCount)
    object["keyValueHeadCount"] = .integer(keyValueHeadCount)
    object["headSize"] = .integer(headSize)
    if valueSize != headSize { object["valueSize"] = .integer(valueSize) }
    object["scale"] = .number(scale.shortestDouble)
    object["softCap"] = softCap.map { .number($0.shortestDouble) }
    object["isCausal"] = .bool(isCausal)
    object["window"] = window.map { .integer($0) }
    object["positions"] = positions.json
    object["sinks"] = sinks.map(\.json)
  }

  init(reader: GraphReader) throws {
    self.init(
      headCount: try reader.integer("headCount"), keyValueHeadCount: try reader.integer("keyValueHeadCount"),
      headSize: try reader.integer("headSize"), valueSize: try reader.optionalSize("valueSize"),
      scale: Float(try reader.number("scale")),
      softCap: reader.has("softCap") ? Float(try reader.number("softCap")) : nil,
      isCausal: try reader.flag("isCausal"), window: try reader.optionalSize("window"),
      positions: try Positions(reader: reader.child("positions")), sinks: try reader.optionalTensor("sinks"))
  }
}

extension Attention.Positions {
  fileprivate var json: JSONValue {
    switch self {
    case .none: .object(["kind": .string("none")])
    case .alibi: .object(["kind": .string("alibi")])
    case .slopes(let bias): bias.json
    case .rotary(let rotary): rotary.json
    case .distances(let table): table.json
    }
  }

  fileprivate init(reader: GraphReader) throws {
    switch try reader.string("kind") {
    case "none": self = .none
    case "alibi": self = .alibi
    case "rotary", Rotary.newerKind: self = .rotary(try Rotary(reader: reader))
    case "slopes": self = .slopes(try LinearBias(reader: reader))
    case "distances": self = .distances(try DistanceTable(reader: reader))
    case let kind: throw reader.refusal("'\(kind)' is not known")
    }
  }
}
