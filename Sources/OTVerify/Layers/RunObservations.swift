import OTFoundation
import OTGraph
import OTRuntime

/// What is observed of a packed model and its source on the same tokens, or on a share of them.
package struct RunObservations: Sendable {
  /// The errors of the nodes in each batch, in order; of one machine alone in all batches.
  ///
  /// Sums of float64 depend on their order: each batch's are taken by themselves, and added in the order of the batches.
  private(set) var batches: [[String: OutputError]]
  /// Sites, by their producers.
  private(set) var activities: [String: SiteActivity]
  /// The outputs; nil where they were not compared.
  private(set) var comparison: ModelComparison?

  init(batches: [[String: OutputError]], activities: [String: SiteActivity], comparison: ModelComparison?) {
    (self.batches, self.activities, self.comparison) = (batches, activities, comparison)
  }

  /// Bytes of values that are kept of the source by default, for comparison.
  package static let defaultByteCount = 1 << 29

  /// Runs `packed` and `source` on `sequences`, or on a share of their batches.
  ///
  /// Each reads its own inputs, so errors are those that have accumulated up
  /// to a node. The source's values are kept for a batch of sequences, of as
  /// many as take at most `byteCount` bytes; where one takes more, for some
  /// nodes at a time: the sequence is then run once for each group of nodes.
  ///
  /// - Throws: `Refusal` with rule `verify-graph` or `verify-no-text`, or as executors throw.
  package init(
    packed: any Executor, source: any Executor, sequences: [TokenSequence], file: String, comparesOutputs: Bool,
    share: WorkShare? = nil, byteCount: Int = defaultByteCount, threadCount: Int = 1,
    progress: ((Int, Int) throws -> Void)? = nil
  ) throws {
    guard sequences.contains(where: { !$0.tokenIDs.isEmpty }) else {
      throw Refusal("verify-no-text", "there are no tokens to run the models on", file: file)
    }
    let plan = try ObservationPlan(source: source.graph, packed: packed.graph, packedPath: file)
    let observer = RunObserver(plan: plan, graph: packed.graph, threadCount: threadCount)
    var comparison = comparesOutputs ? ModelComparison(isCausal: source.graph.isCausal) : nil
    func tokenCount(_ batch: [TokenSequence]) -> Int { batch.reduce(0) { $0 + $1.tokenIDs.count } }
    let all = plan.batches(of: sequences, byteCount: byteCount)
    let own = all[share?.range(of: all.map(tokenCount)) ?? all.indices]
    let total = own.reduce(0) { $0 + tokenCount($1) }
    var done = 0
    var errors: [[String: OutputError]] = []
    for batch in own {
      for (index, group) in plan.groups(tokenCount: tokenCount(batch), byteCount: byteCount).enumerated() {
        observer.begin(group, observesSites: index == 0)
        let expected = try source.run(batch) { value in
          try progress?(done, total)
          observer.observeSource(value)
        }
        let actual = try Refusal.naming(file) {
          try packed.run(batch) { value in
            try progress?(done, total)
            try observer.observePacked(value)
          }
        }
        guard index == 0 else { continue }
        for (sequence, results) in zip(batch, zip(actual, expected)) {
          try comparison?.add(results.0, reference: results.1, tokenIDs: sequence.tokenIDs, threadCount: threadCount)
        }
      }
      errors.append(observer.takeErrors())
      // One machine needs no more than the sums.
      if share == nil { errors = [RunObservations.sum(errors)] }
      done += tokenCount(batch)
      try progress?(done, total)
    }
    self.init(batches: errors, activities: observer.activities, comparison: comparison)
  }

  /// The errors of the nodes in all batches.
  var errors: [String: OutputError] { RunObservations.sum(batches) }

  private static func sum(_ batches: [[String: OutputError]]) -> [String: OutputError] {
    batches.dropFirst().reduce(into: batches.first ?? [:]) { sum, batch in
      sum.merge(batch) { first, second in
        var error = first
        error.add(second)
        return error
      }
    }
  }

  /// True when nodes and sites have the channels that they have in the models.
  func fit(_ plan: ObservationPlan) -> Bool {
    let errors = errors
    return plan.nodes.allSatisfy { errors[$0.name]?.squares.count ?? $0.channelCount == $0.channelCount }
      && plan.sites.allSatisfy { activities[$0.site.producer]?.sourceRanges.minima.count == $0.site.size }
  }

  /// The findings of the sites, in execution order.
  func siteFindings(_ plan: ObservationPlan, _ graph: Graph) -> [SiteFinding] {
    plan.sites.compactMap { observed in
      let site = observed.site
      // No token may have come to an expert.
      guard let activity = activities[site.producer], activity.valueCount > 0,
        activity.sourceRanges.minima.contains(where: \.isFinite)
      else { return nil }
      var finding = SiteFinding(
        site: site, quantization: graph.activations[site.producer] ?? .float,
        transform: graph.transform(ofValue: site.producer), sourceRanges: activity.sourceRanges,
        sourceHistogram: activity.sourceHistogram, packedRanges: activity.packedRanges,
        packedHistogram: activity.packedHistogram, clippedCount: activity.clippedCount,
        valueCount: activity.valueCount)
      finding.rotation = graph.rotation(ofValue: site.producer)
      finding.root = observed.root
      return finding
    }
  }
}
