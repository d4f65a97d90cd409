import OTFoundation
import OTJSON

/// Rotations that go into a model's parameters before anything else is decided (QuaRot, arXiv 2404.00456, section 4):
/// R₁ of the residual stream, R₂ of the values of each head.
package struct OfflineRotation: Sendable, Hashable {
  /// True when the residual stream is rotated.
  package let residual: Bool
  /// True when values are rotated, head by head.
  package let heads: Bool
  /// Of the signs, and of what is no Hadamard matrix.
  package let seed: UInt64

  /// Rotations of some parts.
  package init(residual: Bool = true, heads: Bool = true, seed: UInt64 = 0) {
    (self.residual, self.heads, self.seed) = (residual, heads, seed)
  }

  /// `{residual, heads, seed}`; the seed is a text, since JSON's numbers are doubles to many.
  package var json: JSONValue {
    .object(["residual": .bool(residual), "heads": .bool(heads), "seed": .string("\(seed)")])
  }

  /// Nil for what is no such object.
  package init?(json: JSONValue) {
    guard let residual = json["residual"]?.bool, let heads = json["heads"]?.bool,
      let seed = json["seed"]?.string.flatMap({ UInt64($0) })
    else { return nil }
    self.init(residual: residual, heads: heads, seed: seed)
  }
}

/// A linear of a rotated graph, and how its parameters are made of those of the graph that was rotated.
package struct RotatedLinear: Sendable {
  /// The reason why there is the linear.
  package enum Origin: Sendable, Hashable {
    /// The source has it.
    case source
    /// It rotates what begins the residual stream: R₁ᵀ, after the mean over channels is taken away where it is centred.
    case entry(isCentered: Bool)
    /// It rotates back what the last norm gives: diag(γ)·R₁.
    case exit
  }

  /// The node, of the same name in both graphs.
  package let node: String
  /// The reason why there is the linear.
  package let origin: Origin
  /// The norm whose gain and offset it takes up; nil: none.
  package internal(set) var norm: String?
  /// True when what it reads is rotated by R₁.
  package internal(set) var reads = false
  /// True when what it gives is rotated by R₁.
  package internal(set) var writes = false
  /// True when the mean over channels is taken from what it gives.
  package internal(set) var isCentered = false
  /// Channels of a head whose inputs are rotated by R₂; nil: none are.
  package internal(set) var inputHeadSize: Int?
  /// The outputs of each head that are rotated by R₂.
  package internal(set) var outputHeads: [[Int]] = []

  init(_ node: String, _ origin: Origin = .source) { (self.node, self.origin) = (node, origin) }
}

/// A graph for rotated parameters, and how these are made.
package struct RotatedGraph: Sendable {
  /// Weights and biases of `linears` are its own tensors, `<node>.weight` or the checkpoint's name; norms of a
  /// rotated stream have neither gain nor offset, and no mean is taken away.
  package let graph: Graph
  /// Linears whose parameters differ, in the order of execution.
  package let linears: [RotatedLinear]
}

extension Graph {
  /// The graph of the model with rotated parameters.
  ///
  /// The stream is rotated where it begins and rotated back behind the last norm, so that tables and the output head
  /// stay as they are.
  ///
  /// - Throws: `Refusal` with rule `rotation-stream` where the model's residual stream is not one that only norms read,
  ///   and these only linears: a norm of a post-norm model gives it; `graph-tied` where a parameter serves two nodes.
  package func rotated(by rotation: OfflineRotation) throws -> RotatedGraph {
    var builder = RotationBuilder(self)
    if rotation.residual { try builder.rotateStream() }
    if rotation.heads { try builder.rotateHeads() }
    return try builder.build()
  }
}

private struct RotationBuilder {
  private let graph: Graph
  private var changes: [String: RotatedLinear] = [:]
  private var norms: Set<String> = []
  /// The linear that is put behind a node, by that node.
  private var added: [String: (linear: Node, readers: Set<String>)] = [:]

  init(_ graph: Graph) { self.graph = graph }

  private func refusal(_ message: String) -> Refusal {
    Refusal("rotation-stream", message, remedy: "rotate by --method hadamard, which every model can have")
  }

  private mutating func change(_ name: String, _ body: (inout RotatedLinear) -> Void) {
    body(&changes[name, default: RotatedLinear(name)])
  }

  // MARK: R₁

  /// The linears that add to the stream, through constants, sums and mixtures of experts; nil where the value is no
  /// such thing.
  private func writers(_ name: String) -> [String]? {
    guard let node = graph[name], graph.consumers(of: name).count == 1, !graph.outputs.values.contains(name) else {
      return nil
    }
    switch node.operation {
    case .linear(let linear): return linear.role == .block ? [name] : nil
    case .scale: return writers(node.inputs[0])
    case .mixture, .add:
      // A mixture's router is no part of the sum.
      let parts = node.inputs.filter { graph.rows(of: $0) != .routing($0) }.map(writers)
      return parts.contains(nil) ? nil : parts.flatMap { $0 ?? [] }
    default: return nil
    }
  }

  mutating func rotateStream() throws {
    var stream: Set<String> = []
    var start: String?
    var writers: [String] = []
    for node in graph.nodes {
      guard case .add = node.operation else { continue }
      for (rest, written) in [(node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])] {
        guard let found = self.writers(written), start == nil || stream.contains(rest) else { continue }
        if start == nil {
          start = rest
          stream.insert(rest)
        }
        stream.insert(node.name)
        writers += found
        break
      }
    }
    guard let start, let size = graph.channelCount(of: start) else {
      throw refusal("the model has no residual stream to which linears add")
    }
    let readers = graph.nodes.filter { node in
      node.inputs.contains(where: stream.contains) && !stream.contains(node.name)
    }
    var isCentered = false
    var last: Node?
    for node in readers {
      switch node.operation {
      case .layerNorm(let norm) where norm.groupSize == nil: isCentered = true
      case .rmsNorm(let norm) where norm.groupSize == nil: break
      default: throw refusal("'\(node.name)' reads the residual stream and is no norm of all its channels")
      }
      norms.insert(node.name)
      let linears = graph.consumers(of: node.name)
      let areBlocks = linears.allSatisfy {
        if case .linear(let linear)? = graph[$0]?.operation { [.block, .router].contains(linear.role) } else { false }
      }
      if areBlocks, !linears.isEmpty, !graph.outputs.values.contains(node.name) {
        for linear in linears {
          change(linear) {
            $0.norm = node.name
            $0.reads = true
          }
        }
      } else {
        guard last == nil else {
          throw refusal("'\(node.name)' gives what is read beside linears, as '\(last?.name ?? "")' does")
        }
        last = node
      }
    }
    guard !stream.contains(where: graph.outputs.values.contains) else {
      throw refusal("the residual stream is an output")
    }
    for writer in writers {
      change(writer) {
        $0.writes = true
        $0.isCentered = isCentered
      }
    }
    func add(behind node: String, _ suffix: String, _ origin: RotatedLinear.Origin, readers: [String], bias: Bool)
      throws
    {
      let name = "\(node).\(suffix)"
      guard graph[name] == nil else { throw refusal("there is a node '\(name)' already") }
      var linear = RotatedLinear(name, origin)
      if origin == .exit { linear.norm = node }
      changes[name] = linear
      let operation = Linear(
        weight: .named("\(name).weight"), bias: bias ? .named("\(name).bias") : nil, inFeatures: size,
        outFeatures: size,
        role: .rotation)
      added[node] = (Node(name, .linear(operation), inputs: [node]), Set(readers))
    }
    try add(
      behind: start, "rotated", .entry(isCentered: isCentered),
      readers: graph.consumers(of: start).filter { norms.contains($0) || stream.contains($0) }, bias: false)
    guard graph.consumers(of: start).allSatisfy({ norms.contains($0) || stream.contains($0) }) else {
      throw refusal("'\(start)' is read beside the residual stream")
    }
    if let last {
      try add(
        behind: last.name, "unrotated", .exit, readers: graph.consumers(of: last.name), bias: hasOffset(last.name))
    }
  }

  private func hasOffset(_ norm: String) -> Bool {
    switch graph[norm]?.operation {
    case .layerNorm(let norm), .rmsNorm(let norm): norm.beta != nil
    default: false
    }
  }

  // MARK: R₂

  mutating func rotateHeads() throws {
    for node in graph.nodes {
      guard case .attention(let attention) = node.operation, attention.valueSize > 1 else { continue }
      let value = node.inputs[2]
      let readers = graph.consumers(of: node.name)
      guard graph.consumers(of: value) == [node.name], !readers.isEmpty,
        readers.allSatisfy({ if case .linear? = graph[$0]?.operation { true } else { false } })
      else { throw refusal("the values of '\(node.name)' do not come of one linear and go to others") }
      var (linear, rows) = (value, Array(0..<attention.keyValueHeadCount * attention.valueSize))
      if case .channelSlice(let slice)? = graph[value]?.operation {
        linear = graph[value]?.inputs[0] ?? value
        rows = rows.map(slice.inputChannel)
      }
      guard case .linear? = graph[linear]?.operation else {
        throw refusal("the values of '\(node.name)' do not come of a linear")
      }
      let size = attention.valueSize
      change(linear) { $0.outputHeads = stride(from: 0, to: rows.count, by: size).map { Array(rows[$0..<$0 + size]) } }
      for reader in readers { change(reader) { $0.inputHeadSize = size } }
    }
  }

  // MARK: The graph

  func build() throws -> RotatedGraph {
    var nodes: [Node] = []
    var linears: [RotatedLinear] = []
    for node in graph.nodes {
      var (operation, inputs) = (node.operation, node.inputs)
      switch operation {
      case .layerNorm(let norm) where norms.contains(node.name), .rmsNorm(let norm) where norms.contains(node.name):
        operation = .rmsNorm(Norm(gamma: nil, beta: nil, epsilon: norm.epsilon, size: norm.size))
      case .linear(let linear):
        guard let change = changes[node.name] else { break }
        for tensor in [linear.weight, linear.bias].compactMap({ $0 }) where (graph.useCounts[tensor] ?? 0) > 1 {
          throw Refusal(
            "graph-tied", "the parameters of '\(node.name)' serve another node, too, and cannot change",
            tensor: tensor.name)
        }
        let gainsBias = linear.bias == nil && change.norm.map(hasOffset) ?? false
        operation = .linear(
          linear.replacing(
            weight: .named(linear.weight.isWhole ? linear.weight.name : "\(node.name).weight"),
            bias: linear.bias.map { .named($0.isWhole ? $0.name : "\(node.name).bias") }
              ?? (gainsBias ? .named("\(node.name).bias") : nil)))
        linears.append(change)
      default: break
      }
      inputs = inputs.map { input in
        guard let (linear, readers) = added[input], readers.contains(node.name) else { return input }
        return linear.name
      }
      nodes.append(Node(node.name, operation, inputs: inputs))
      if let (linear, _) = added[node.name], let change = changes[linear.name] {
        nodes.append(linear)
        linears.append(change)
      }
    }
    let outputs = graph.outputs.mapValues { added[$0]?.linear.name ?? $0 }
    let rotated = try Graph(
      family: graph.family, nodes: nodes, outputs: outputs, vocabularySize: graph.vocabularySize,
      contextLength: graph.contextLength, missing: graph.missing)
    return RotatedGraph(graph: rotated, linears: linears)
  }
}
