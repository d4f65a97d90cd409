import OTFoundation
import OTGraph
import OTObservation
import OTRuntime

/// Observes two models that run in turn; not for several threads at once.
final class RunObserver {
  private let plan: ObservationPlan
  private let graph: Graph
  private let threadCount: Int
  private var group: [String: ObservationPlan.Compared] = [:]
  private var observesSites = true
  private var kept: [String: (values: [Float], tokens: [Int]?)] = [:]
  /// Of the nodes of one batch.
  private var errors: [String: OutputError] = [:]
  /// Of sites, by their producers.
  private(set) var activities: [String: SiteActivity] = [:]
  private let sitesByRoot: [String: [ObservationPlan.ObservedSite]]
  private let producersByUnrotated: [String: [String]]

  init(plan: ObservationPlan, graph: Graph, threadCount: Int) {
    self.plan = plan
    self.graph = graph
    self.threadCount = threadCount
    sitesByRoot = Dictionary(grouping: plan.sites, by: \.root)
    producersByUnrotated = Dictionary(grouping: plan.sites, by: \.unrotated).mapValues { $0.map(\.site.producer) }
    for site in plan.sites { activities[site.site.producer] = SiteActivity(channelCount: site.site.size) }
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
    var error = errors[name] ?? OutputError(channelCount: node.channelCount)
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
      let (own, others) = RunObserver.common(value.tokens ?? [], expected.tokens ?? [])
      guard !own.isEmpty else { return }
      let size = node.channelCount
      let chosen = own.flatMap { values[$0 * size..<($0 + 1) * size] }
      try chosen.withUnsafeBufferPointer {
        try add($0, others.flatMap { expected.values[$0 * size..<($0 + 1) * size] })
      }
    }
    errors[name] = error
  }

  /// The places, in two ordered lists of tokens, of those that both have.
  private static func common(_ first: [Int], _ second: [Int]) -> ([Int], [Int]) {
    let places = Dictionary(uniqueKeysWithValues: second.enumerated().map { ($1, $0) })
    let pairs = first.enumerated().compactMap { place, token in places[token].map { (place, $0) } }
    return (pairs.map(\.0), pairs.map(\.1))
  }

  private func clippedCount(_ values: UnsafeBufferPointer<Float>, bits: Int) -> Int {
    let limit = Float(1 << (bits - 1))
    // Codes are −2^(bits−1) … 2^(bits−1) − 1; what rounds to one of them is not clipped.
    return values.count { !($0 >= -limit - 0.5 && $0 < limit - 0.5) }
  }

  /// The errors of the nodes since they were asked for last.
  func takeErrors() -> [String: OutputError] {
    defer { errors = [:] }
    return errors
  }
}
