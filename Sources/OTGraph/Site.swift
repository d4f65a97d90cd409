/// An activation that feeds one or more linears of a block, which all read the
/// same value and so form one fused group.
package struct Site: Sendable, Hashable {
  /// The node whose value it is.
  package let producer: String
  /// The linears of blocks that read it, in execution order.
  package let consumers: [String]
  /// Channels.
  package let size: Int
  /// The kind of node that gives the value; nodes that migration put on the edge are looked through.
  package let fedBy: Operation.Kind

  /// True when a norm gives the value, directly or through an affine node.
  package var isNormFed: Bool { fedBy == .norm }
}

extension Graph {
  /// Every site, in execution order of its producer.
  package var sites: [Site] { nodes.compactMap { site(producedBy: $0.name) } }

  /// Those of these nodes that give sites, in execution order.
  package func sites(producedBy names: Set<String>) -> [Site] {
    names.compactMap { indices[$0] }.sorted().compactMap { site(producedBy: nodes[$0].name) }
  }

  /// The site that the value of `name` is; nil where no linear of a block
  /// reads it.
  package func site(producedBy name: String) -> Site? {
    let linears = consumers(of: name).filter { multiplies($0, name) }
    guard !linears.isEmpty, let size = channelCount(of: name) else { return nil }
    let origin = self[nodeBeforeEdge(name)]
    return Site(producer: name, consumers: linears, size: size, fedBy: origin?.operation.kind ?? .input)
  }

  func isSiteProducer(_ name: String) -> Bool { consumers(of: name).contains { multiplies($0, name) } }

  /// True when `name` is a linear of a block and `value` what it multiplies: an expert reads its router, too.
  private func multiplies(_ name: String, _ value: String) -> Bool {
    guard let node = self[name], case .linear(let linear) = node.operation else { return false }
    return linear.role == .block && node.inputs.first == value
  }

  /// True when the value of the linear `name` comes to attention as queries or keys, also beside values.
  package func givesScores(_ name: String) -> Bool {
    var names = [name]
    while let current = names.popLast() {
      for reader in consumers(of: current) {
        guard let node = self[reader] else { continue }
        switch node.operation {
        case .attention: if node.inputs.dropLast().contains(current) { return true }
        case .add where split(node) != nil: names.append(reader)
        case .linear, .add, .multiply: continue
        default: names.append(reader)
        }
      }
    }
    return false
  }

  /// The linear that `statisticsName` (a name from a file of activation
  /// statistics) means: the same name, or the same but for prefixes such as
  /// `model.` that tools leave out or add; nil where there is none.
  package func matches(statisticsName: String) -> String? {
    if case .linear? = self[statisticsName]?.operation { return statisticsName }
    let wanted = Families.withoutOptionalPrefixes(statisticsName)
    return nodes.first { node in
      guard case .linear = node.operation else { return false }
      return Families.withoutOptionalPrefixes(node.name) == wanted
    }?.name
  }
}
