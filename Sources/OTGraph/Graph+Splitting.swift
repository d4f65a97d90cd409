import OTFoundation
import OTTensor

// Channels that stay in floating point while the others of a site become integers (LLM.int8()).
//
// A linear `name` that reads x becomes `name.rest`, which reads `x.rest` and has the bias, and `name.kept`, which
// reads `x.kept`; their sum has the name of the linear, so that its value is what it was.

extension Graph {
  /// The graph in which the linears of a site read some of its channels apart from the others, and which
  /// computes the same function.
  ///
  /// - Throws: `Refusal` with rule `graph-split` for channels that are not some of the site's, and for linears
  ///   that cannot be split: of a value that is rotated, or whose own value is transformed.
  package func splitting(_ site: Site, keeping channels: ChannelChoice) throws -> Graph {
    func refusal(_ message: String) -> Refusal { Refusal("graph-split", "the site '\(site.producer)': \(message)") }
    guard self.site(producedBy: site.producer) == site else { throw refusal("is not one of this graph as described") }
    if let fault = channels.fault(among: site.size) { throw refusal(fault) }
    guard rotation(ofValue: site.producer) == nil else { throw refusal("is rotated") }
    try refuseTiedWeights(of: site)
    let parts = [("kept", channels), ("rest", channels.rest)].map { suffix, channels in
      (
        suffix: suffix, gather: Gather(channels, size: site.size), name: freeName("\(site.producer).\(suffix)"),
        count: channels.count(among: site.size)
      )
    }
    var (nodes, transforms, activations): ([Node], _, _) = ([], self.transforms, self.activations)
    for node in self.nodes {
      guard site.consumers.contains(node.name), case .linear(let linear) = node.operation else {
        nodes.append(node)
        continue
      }
      guard transforms[node.name] == nil else { throw refusal("the value of '\(node.name)' is transformed") }
      if node.name == site.consumers.first {
        nodes += parts.map { Node($0.name, .gather($0.gather), inputs: [site.producer]) }
      }
      for part in parts {
        let name = "\(node.name).\(part.suffix)"
        guard self[name] == nil else { throw refusal("there is a node '\(name)' already") }
        nodes.append(
          Node(
            name,
            .linear(
              linear.replacing(
                weight: .columns(of: linear.weight, part.gather.channels),
                bias: part.gather.channels.isRest == channels.isRest ? nil : linear.bias, inFeatures: part.count)),
            inputs: [part.name] + node.inputs.dropFirst()))
      }
      nodes.append(Node(node.name, .add, inputs: ["\(node.name).rest", "\(node.name).kept"]))
    }
    let transform = transform(ofValue: site.producer)
    if !transform.isIdentity {
      for part in parts { transforms[part.name] = transform.gathered(part.gather.channels.channels(among: site.size)) }
    }
    activations[parts[1].name] = activations.removeValue(forKey: site.producer)
    return try replacing(nodes: nodes, transforms: transforms, activations: activations)
  }

  /// The linear that multiplies what a site gives in the place of the model's linear `name`: itself, or where its
  /// channels were split, the one that reads the rest of them; nil where there is no such linear.
  package func linear(for name: String) -> Node? {
    guard let node = self[name] else { return nil }
    if case .linear = node.operation { return node }
    return split(node).flatMap { _ in self[node.inputs[0]] }
  }

  /// The linear whose channels were split, where `node` is the sum of its parts; nil for other nodes.
  func split(_ node: Node) -> Node? {
    guard case .add = node.operation, let rest = part(node.inputs[0]), let kept = part(node.inputs[1]),
      rest.source == kept.source, rest.gather.channels == kept.gather.channels.rest,
      rest.gather.size == kept.gather.size,
      rest.inputs == kept.inputs, kept.linear.bias == nil
    else { return nil }
    let linear = rest.linear.replacing(
      weight: rest.source, bias: rest.linear.bias, inFeatures: rest.gather.size)
    return Node(node.name, .linear(linear), inputs: rest.inputs)
  }

  private func part(_ name: String) -> (linear: Linear, source: SourceTensor, gather: Gather, inputs: [String])? {
    guard let node = self[name], case .linear(let linear) = node.operation,
      case .columns(let source, let columns) = linear.weight, let input = self[nodeBeforeEdge(node.inputs[0])],
      case .gather(let gather) = input.operation, gather.channels == columns
    else { return nil }
    return (linear, source, gather, [input.inputs[0]] + node.inputs.dropFirst())
  }

  /// The node that gives the value that a site's channels are, looking through those that migration put there, and
  /// which of its channels they are; nil: all.
  package func origin(of producer: String) -> (name: String, channels: [Int]?) {
    let name = nodeBeforeEdge(producer)
    guard let node = self[name], case .gather(let gather) = node.operation else { return (name, nil) }
    return (nodeBeforeEdge(node.inputs[0]), gather.channels.channels(among: gather.size))
  }
}
