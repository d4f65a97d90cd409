import OTFoundation
import OTGraph
import OTRuntime

/// The values that are compared, and the number of them in memory at a time.
struct ObservationPlan: Sendable {
  /// A node whose value both models have.
  struct Compared: Sendable {
    let name: String
    let channelCount: Int
    let kind: LayerFinding.Kind
    /// The transform that migration put on the packed model's value.
    let transform: ChannelTransform
  }

  /// A site of the packed model, and the node of the source that gives its value.
  struct ObservedSite: Sendable {
    let site: Site
    let root: String
    /// The channels of that which the site has; nil: all.
    let channels: [Int]?
    /// The node of the packed model that gives the site's value before it is rotated: the
    /// producer itself where it is not.
    let unrotated: String
  }

  /// In execution order.
  let nodes: [Compared]
  let sites: [ObservedSite]

  /// - Throws: `Refusal` with rule `verify-graph` where the models differ.
  init(source: Graph, packed: Graph, packedPath: String) throws {
    if let difference = packed.differences(from: source).first {
      throw Refusal(
        "verify-graph", "'\(difference.name)' \(difference.message)", file: packedPath,
        remedy: "verify against the checkpoint that was converted")
    }
    let sites = packed.sites.compactMap { site -> ObservedSite? in
      let origin = packed.origin(of: site.producer)
      // Channels that were taken apart to stay in floating point are not judged.
      guard origin.channels == nil || packed.activations[site.producer] != nil else { return nil }
      let isRotated = packed.rotation(ofValue: site.producer) != nil
      return ObservedSite(
        site: site, root: origin.name, channels: origin.channels,
        unrotated: isRotated ? packed[site.producer]?.inputs.first ?? site.producer : site.producer)
    }
    let roots = Set(sites.map(\.root))
    var nodes: [Compared] = []
    for node in source.nodes {
      guard let channelCount = source.channelCount(of: node.name), channelCount > 0 else { continue }
      let kind = LayerFinding.Kind(node.operation.kind)
      guard kind.isJudged || roots.contains(node.name) else { continue }
      nodes.append(
        Compared(
          name: node.name, channelCount: channelCount, kind: kind,
          transform: packed.transform(ofValue: node.name)))
    }
    self.nodes = nodes
    self.sites = sites
  }

  /// The sequences, in order, in batches that float products take together and whose
  /// values take at most `byteCount` bytes in float32; a batch has at least one sequence. Empty ones are left out.
  func batches(of sequences: [TokenSequence], byteCount: Int) -> [[TokenSequence]] {
    let bytesPerToken = nodes.reduce(0) { $0 + $1.channelCount * 4 }
    let sequences = sequences.filter { !$0.tokenIDs.isEmpty }
    return TokenSequence.productBlocks(lengths: sequences.map(\.tokenIDs.count)).flatMap { block in
      let sequences = sequences[block]
      return SharedBatches(costs: sequences.map { $0.tokenIDs.count * bytesPerToken }, limit: byteCount, nil).own
        .map { batch in sequences.dropFirst(batch.lowerBound).prefix(batch.count).map { $0 } }
    }
  }

  /// The nodes in groups whose values, for `tokenCount` tokens, take at most
  /// `byteCount` bytes in float32; a group has at least one node.
  func groups(tokenCount: Int, byteCount: Int) -> [[Compared]] {
    var groups: [[Compared]] = []
    var filled = 0
    for node in nodes {
      let size = node.channelCount * tokenCount * 4
      if groups.isEmpty || filled + size > byteCount {
        groups.append([])
        filled = 0
      }
      groups[groups.count - 1].append(node)
      filled += size
    }
    return groups
  }
}
