import OTFoundation
import OTGraph
import OTJSON
import OTObservation
import OTRuntime

/// The result of running a packed model and its source on the same tokens.
package struct RunVerification: Sendable {
  /// A finding for every linear, every norm and every other node that gives a
  /// site, in execution order.
  package let layers: [LayerFinding]
  /// A finding for every site, in execution order.
  package private(set) var sites: [SiteFinding]
  /// The distance of the outputs; nil unless asked for.
  package let model: ModelFinding?
  /// Tokens that were run.
  package let tokenCount: Int
  /// Sequences that were run.
  package let sequenceCount: Int
  /// The model's scheme, by which tolerances are chosen.
  package let scheme: ModelScheme
  /// The limits.
  package let tolerance: Tolerance

  /// Puts the figures together.
  package init(
    layers: [LayerFinding], sites: [SiteFinding], model: ModelFinding?, tokenCount: Int, sequenceCount: Int,
    scheme: ModelScheme, tolerance: Tolerance
  ) {
    (self.layers, self.sites, self.model) = (layers, sites, model)
    (self.tokenCount, self.sequenceCount) = (tokenCount, sequenceCount)
    (self.scheme, self.tolerance) = (scheme, tolerance)
  }

  /// Layers with faults.
  package var offenders: [LayerFinding] { layers.filter { !$0.faults.isEmpty } }
  /// True when nothing has a fault.
  package var hasPassed: Bool { offenders.isEmpty && model?.faults.isEmpty ?? true }

  /// Adds to each site what a file's metadata tells of the methods that were tried for it.
  package mutating func add(trials: JSONValue?) {
    for index in sites.indices {
      let tried = trials?[sites[index].root]?.object?.members ?? []
      sites[index].trials = tried.map { ($0.key, $0.value.double ?? .nan) }
    }
  }

  /// Bytes of values that are kept of the source by default, for comparison.
  package static let defaultByteCount = 1 << 29

  /// Runs `packed` and `source` on `sequences`.
  ///
  /// Each reads its own inputs, so errors are those that have accumulated up
  /// to a node. The source's values are kept for a batch of sequences, of as
  /// many as take at most `byteCount` bytes; where one takes more, for some
  /// nodes at a time: the sequence is then run once for each group of nodes.
  ///
  /// - Parameters:
  ///   - weights: how linears' weights are stored, by node.
  ///   - comparesOutputs: whether the outputs are compared, too.
  /// - Throws: `Refusal` with rule `verify-graph` or `verify-no-text`, or as executors throw.
  package init(
    packed: any Executor, source: any Executor, weights: StoredWeights, sequences: [TokenSequence], file: String,
    comparesOutputs: Bool, tolerance: Tolerance = Tolerance(), byteCount: Int = defaultByteCount,
    threadCount: Int = 1, progress: ((Int, Int) throws -> Void)? = nil
  ) throws {
    guard sequences.contains(where: { !$0.tokenIDs.isEmpty }) else {
      throw Refusal("verify-no-text", "there are no tokens to run the models on", file: file)
    }
    let plan = try ObservationPlan(source: source.graph, packed: packed.graph, packedPath: file)
    let observation = Observation(plan: plan, graph: packed.graph, threadCount: threadCount)
    var comparison = comparesOutputs ? ModelComparison(isCausal: source.graph.isCausal) : nil
    let total = sequences.reduce(0) { $0 + $1.tokenIDs.count }
    var done = 0
    for batch in plan.batches(of: sequences, byteCount: byteCount) {
      let tokenCount = batch.reduce(0) { $0 + $1.tokenIDs.count }
      for (index, group) in plan.groups(tokenCount: tokenCount, byteCount: byteCount).enumerated() {
        observation.begin(group, observesSites: index == 0)
        let expected = try source.run(batch) { value in
          try progress?(done, total)
          observation.observeSource(value)
        }
        let actual = try Refusal.naming(file) {
          try packed.run(batch) { value in
            try progress?(done, total)
            try observation.observePacked(value)
          }
        }
        guard index == 0 else { continue }
        for (sequence, results) in zip(batch, zip(actual, expected)) {
          try comparison?.add(results.0, reference: results.1, tokenIDs: sequence.tokenIDs, threadCount: threadCount)
        }
      }
      done += tokenCount
      try progress?(done, total)
    }
    let scheme = ModelScheme(graph: packed.graph, weights: weights)
    self.scheme = scheme
    self.tolerance = tolerance
    layers = observation.errors.map { node, error in
      LayerFinding(
        name: node.name, kind: node.kind, scheme: weights.description(of: node.name, in: packed.graph),
        error: error, faults: node.kind.isJudged ? tolerance.faults(of: error, scheme: scheme) : [])
    }
    sites = observation.siteFindings
    model = comparison.map { ModelFinding($0, tolerance: tolerance, scheme: scheme) }
    tokenCount = total
    sequenceCount = sequences.count
  }
}

/// Observations of two models that run in turn; not for several threads at once.
private final class Observation {
  private let plan: ObservationPlan
  private let graph: Graph
  private let threadCount: Int
  private var group: [String: ObservationPlan.Compared] = [:]
  private var observesSites = true
  private var kept: [String: (values: [Float], tokens: [Int]?)] = [:]
  private var errorsByName: [String: OutputError] = [:]
  private var activities: [String: Activity] = [:]
  private let sitesByRoot: [String: [ObservationPlan.ObservedSite]]
  private let producersByUnrotated: [String: [String]]

  private struct Activity {
    var sourceRanges: ChannelRanges
    var sourceHistogram = ValueHistogram()
    var packedRanges: ChannelRanges
    var packedHistogram = ValueHistogram()
    var clippedCount = 0
    var valueCount = 0

    init(channelCount: Int) {
      sourceRanges = ChannelRanges(channelCount: channelCount)
      packedRanges = sourceRanges
    }
  }

  init(plan: ObservationPlan, graph: Graph, threadCount: Int) {
    self.plan = plan
    self.graph = graph
    self.threadCount = threadCount
    sitesByRoot = Dictionary(grouping: plan.sites, by: \.root)
    producersByUnrotated = Dictionary(grouping: plan.sites, by: \.unrotated).mapValues { $0.map(\.site.producer) }
    for site in plan.sites { activities[site.site.producer] = Activity(channelCount: site.site.size) }
  }

  /// Starts over with the next tokens, or other nodes.
  func begin(_ nodes: [ObservationPlan.Compared], observesSites: Bool) {
    group = Dictionary(nodes.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    kept = [:]
    self.observesSites = observesSites
  }

  func observeSource(_ value: NodeValue) {
    let (name, values) = (value.name, value.values)
    if observesSites {
      for site in sitesByRoot[name] ?? [] {
        let producer = site.site.producer
        guard let channels = site.channels, let size = graph.channelCount(of: name), size > 0 else {
          activities[producer]?.sourceRanges.add(values)
          activities[producer]?.sourceHistogram.add(values)
          continue
        }
        let chosen = stride(from: 0, to: values.count, by: size).flatMap { row in channels.map { values[row + $0] } }
        chosen.withUnsafeBufferPointer {
          activities[producer]?.sourceRanges.add($0)
          activities[producer]?.sourceHistogram.add($0)
        }
      }
    }
    if group[name] != nil { kept[name] = (Array(values), value.tokens) }
  }

  func observePacked(_ value: NodeValue) throws {
    let (name, values) = (value.name, value.values)
    if observesSites {
      for producer in producersByUnrotated[name] ?? [] { activities[producer]?.packedRanges.add(values) }
    }
    if observesSites, activities[name] != nil {
      activities[name]?.packedHistogram.add(values)
      activities[name]?.valueCount += values.count
      if case .static(let bits, _)? = graph.activations[name] {
        activities[name]?.clippedCount += clippedCount(values, bits: bits)
      }
    }
    guard let node = group[name], let expected = kept.removeValue(forKey: name) else { return }
    var error = errorsByName[name] ?? OutputError(channelCount: node.channelCount)
    func add(_ values: UnsafeBufferPointer<Float>, _ expected: [Float]) throws {
      try expected.withUnsafeBufferPointer {
        try error.add(
          model: values, reference: $0, restoring: (node.transform.shift, node.transform.scale),
          threadCount: threadCount)
      }
    }
    if value.tokens == expected.tokens {
      try add(values, expected.values)
    } else {
      // The router of one model sends tokens to an expert that the other's does not: those of both are compared.
      let (own, others) = Observation.common(value.tokens ?? [], expected.tokens ?? [])
      guard !own.isEmpty else { return }
      let size = node.channelCount
      let chosen = own.flatMap { values[$0 * size..<($0 + 1) * size] }
      try chosen.withUnsafeBufferPointer {
        try add($0, others.flatMap { expected.values[$0 * size..<($0 + 1) * size] })
      }
    }
    errorsByName[name] = error
  }

  /// The places, in two ordered lists of tokens, of those that both have.
  fileprivate static func common(_ first: [Int], _ second: [Int]) -> ([Int], [Int]) {
    let places = Dictionary(uniqueKeysWithValues: second.enumerated().map { ($1, $0) })
    let pairs = first.enumerated().compactMap { place, token in places[token].map { (place, $0) } }
    return (pairs.map(\.0), pairs.map(\.1))
  }

  private func clippedCount(_ values: UnsafeBufferPointer<Float>, bits: Int) -> Int {
    let limit = Float(1 << (bits - 1))
    // Codes are −2^(bits−1) … 2^(bits−1) − 1; what rounds to one of them is not clipped.
    return values.count { !($0 >= -limit - 0.5 && $0 < limit - 0.5) }
  }

  /// In execution order.
  var errors: [(ObservationPlan.Compared, OutputError)] {
    plan.nodes.compactMap { node in errorsByName[node.name].map { (node, $0) } }
  }

  var siteFindings: [SiteFinding] {
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
