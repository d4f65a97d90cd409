import OTFoundation
import OTGraph
import OTObservation
import OTRuntime

/// What rounding takes of memory, from shapes alone.
extension SequentialRounding {
  /// Memory in bytes that a site takes beside values: what its rule makes of what was observed, and its weights.
  private func byteCount(of site: Site) -> Int {
    let uses = site.consumers.flatMap(graph.parameterUses(of:)).filter { $0.role == .weight }
    // Values as they are rounded, and in tiles.
    let weights = uses.reduce(0) { $0.addingChecked($1.shape.elementCount * 2) ?? .max }
    return rule(site).fittedByteCount(channelCount: site.size).addingChecked(weights) ?? .max
  }

  /// Memory in bytes that kept values may take, whatever the site.
  func keptByteCount(lengths: [Int]) -> Int {
    let most = sites.reduce(0) { most, site in
      let observed = rule(site).needs.reduce(0) {
        $0.addingChecked($1.byteCount(channelCount: site.size, lengths: lengths)) ?? .max
      }
      return max(most, byteCount(of: site).addingChecked(observed) ?? .max)
    }
    // As much again for those of a batch.
    return max(maximumByteCount - min(most, maximumByteCount), 0) / (2 * networkCount)
  }

  /// Memory in bytes that samples of these lengths take at least: the smallest batch of one site, what is observed of
  /// it, what its rule makes of that, and its weights.
  ///
  /// - Throws: as executors throw.
  package func leastByteCount(lengths: [Int]) throws -> Int {
    try most(lengths, of: [sites.indices]) { executor, pass, _, lengths in
      // Values may be in a file: only their being there counts.
      var pass = pass
      pass.kept = []
      return pass.kinds.isEmpty ? 0 : try Calibrator.leastByteCount(executor, lengths: lengths, pass: pass)
    }[0]
  }

  /// Memory in bytes that samples of these lengths take where there is enough.
  ///
  /// - Throws: as executors throw.
  package func byteCount(lengths: [Int]) throws -> Int { try byteCounts(lengths: lengths, of: [sites.indices])[0] }

  /// The same of parts of the sites, each by its places.
  ///
  /// - Throws: as executors throw.
  package func byteCounts(lengths: [Int], of parts: [Range<Int>]) throws -> [Int] {
    try most(lengths, of: parts) { executor, pass, room, lengths in
      let values = pass.given.nodes.reduce(0) { $0 + (graph.channelCount(of: $1) ?? 0) * lengths.reduce(0, +) * 4 }
      // Of the float network all values wait while the other is run.
      let waiting = pass.kept.reduce(0) { $0 + (graph.channelCount(of: $1) ?? 0) * lengths.reduce(0, +) * 4 }
      let given = values + (networkCount - 1) * waiting
      return try Calibrator(executor: executor, parameterByteCount: 0, maximumByteCount: room)
        .byteCount(lengths: lengths, pass: pass).addingChecked(given) ?? .max
    }
  }

  /// Bytes of what the sites after one need of those before: values of the samples, and weights that these have not passed.
  ///
  /// - Parameter index: the site, by its place.
  package func passedByteCount(after index: Int, tokenCount: Int) -> Int {
    let channels = graph.frontier(at: sites[index]).reduce(0) { $0 + (graph.channelCount(of: $1) ?? 0) }
    let weights = sites[index].consumers.flatMap(graph.parameterUses(of:)).filter { $0.role == .weight }
      .reduce(0) { $0 + $1.shape.elementCount }
    return (channels * tokenCount).multipliedChecked(by: 4 * networkCount)?.addingChecked(weights) ?? .max
  }

  /// What decides about the memory that the pass to a site takes. Layers repeat it, and experts do many times.
  private struct Kind: Hashable {
    let size: Int
    let rowCounts: [Int]
    let rule: String
    /// Channels of the values that it begins with and of those that it keeps; nil: it begins with tokens.
    let given, kept: Int?
  }

  /// The most that passes to the sites take in bytes, each with what its site takes beside values.
  ///
  /// - Parameters:
  ///   - parts: places of sites, from which the most is asked for each.
  ///   - byteCount: of a pass whose given values are named but not there, with the room that it has.
  private func most(
    _ lengths: [Int], of parts: [Range<Int>],
    _ byteCount: (FloatExecutor, CalibrationPass, _ room: Int, _ lengths: [Int]) throws -> Int
  ) throws -> [Int] {
    let lengths = lengths.filter { $0 > 0 }
    let executor = try FloatExecutor(graph: graph, parameters: parameters, threadCount: 1)
    let frontiers = graph.frontiers(at: sites)
    let channelCounts = frontiers.map { $0.reduce(0) { $0 + (graph.channelCount(of: $1) ?? 0) } }
    var known: [Kind: Int] = [:]
    func count(at index: Int) throws -> Int {
      let (site, rule) = (sites[index], rule(sites[index]))
      let uses = site.consumers.flatMap(graph.parameterUses(of:)).filter { $0.role == .weight }
      let kind = Kind(
        size: site.size, rowCounts: uses.map(\.shape.rowCount), rule: type(of: rule).name,
        given: index == 0 ? nil : channelCounts[index - 1], kept: channelCounts[index])
      if let count = known[kind] { return count }
      var pass = pass(to: site, for: rule, keeping: frontiers[index])
      let given = index == 0 ? [] : frontiers[index - 1]
      pass.given = KeptValues(given.reduce(into: [:]) { $0[$1] = [] })
      let count =
        try byteCount(executor, pass, room(at: site), lengths)
        .addingChecked(self.byteCount(of: site)) ?? .max
      known[kind] = count
      return count
    }
    return try parts.map { try $0.reduce(0) { max($0, try count(at: $1)) } }
  }

  /// Memory in bytes for values and observers at a site.
  func room(at site: Site) -> Int { maximumByteCount - min(byteCount(of: site), maximumByteCount) }
}
