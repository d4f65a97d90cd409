import OTFoundation
import OTGraph
import OTKernels
import OTRuntime

/// Gathers something about the value of one site, sample by sample.
///
/// The result depends on the samples and their order alone, not on how many of them
/// run together or on how many threads.
package protocol SiteObserver: AnyObject {
  /// Adds the rows of a sample, `[rows, channels]`, at least one, all finite.
  ///
  /// - Parameter sample: counts the samples of calibration; they come in order.
  func add(_ values: UnsafeBufferPointer<Float>, sample: Int) throws

  /// The same of the rows that a site of an expert has of a sample: those of the tokens at these positions.
  func add(_ values: UnsafeBufferPointer<Float>, sample: Int, positions: [Int]) throws

  /// Puts what was gathered into `site`.
  func store(in site: inout SiteObservations)
}

extension SiteObserver {
  /// Adds the rows, wherever they are from.
  package func add(_ values: UnsafeBufferPointer<Float>, sample: Int, positions: [Int]) throws {
    try add(values, sample: sample)
  }
}

/// The observers of several sites, which see what an executor shows on its calling thread.
final class SiteObservers {
  private let lengths: [Int]
  private let sites: [String: (size: Int, observers: [any SiteObserver])]

  /// - Parameters:
  ///   - graph: of the sites.
  ///   - lengths: tokens of each sample of calibration.
  ///   - seen: what was observed of samples before these, ranges alone.
  init(
    _ sites: [Site], of graph: Graph, kinds: Set<ObservationKind>, lengths: [Int],
    seen: [String: SiteObservations] = [:],
    threadCount: Int
  ) {
    self.lengths = lengths
    let kinds = kinds.withoutSmaller
    func choices(spread: Int) -> [ObservationKind: RowChoice] {
      Dictionary(
        uniqueKeysWithValues: kinds.compactMap { kind in
          kind.choice(lengths: lengths, spread: spread).map { (kind, $0) }
        })
    }
    let spreads = Set(sites.map { graph.tokensPerRow(of: $0) })
    let choicesBySpread = Dictionary(uniqueKeysWithValues: spreads.map { ($0, choices(spread: $0)) })
    let places = sites.map { site -> (String, (size: Int, observers: [any SiteObserver])) in
      let choices = choicesBySpread[graph.tokensPerRow(of: site)] ?? [:]
      let observers = kinds.map { kind -> any SiteObserver in
        switch kind {
        case .ranges: RangeObserver(channelCount: site.size, ranges: seen[site.producer]?.ranges)
        case .channelMoments: ChannelMomentObserver(channelCount: site.size)
        case .sampleRanges:
          SampleRangeObserver(channelCount: site.size, samples: seen[site.producer]?.sampleRanges ?? [])
        case .moments: MomentObserver(channelCount: site.size, threadCount: threadCount)
        case .rows:
          RowObserver(channelCount: site.size, choice: choices[kind] ?? RowChoice(), storingTo: \.rows)
        case .wholeSamples:
          RowObserver(channelCount: site.size, choice: choices[kind] ?? RowChoice(), storingTo: \.wholeSamples)
        }
      }
      return (site.producer, (site.size, observers))
    }
    self.sites = Dictionary(uniqueKeysWithValues: places)
  }

  /// Adds the value of a node for several samples, one after the other.
  ///
  /// - Throws: `Refusal` with rule `calibration-not-finite`, or as observers throw.
  func add(_ value: NodeValue, samples: some Sequence<Int>) throws {
    guard let site = sites[value.name], site.size == value.channelCount else { return }
    let channelCount = value.channelCount
    if let index = Kernels.current.range(value.values).firstNonFinite {
      throw Refusal(
        "calibration-not-finite",
        "the model's activation '\(value.name)' is \(value.values[index]) at channel \(index % channelCount)",
        remedy: "calibrate on another text, or repair the checkpoint")
    }
    var (row, token) = (0, 0)
    for sample in samples {
      // An expert's rows are those of some of the tokens, in order.
      let end = token + lengths[sample]
      let count = value.tokens.map { $0[row...].prefix { $0 < end }.count } ?? lengths[sample]
      let rows = row..<row + count
      let part = UnsafeBufferPointer(
        rebasing: value.values[rows.lowerBound * channelCount..<rows.upperBound * channelCount])
      for observer in site.observers where count > 0 {
        if let tokens = value.tokens {
          try observer.add(part, sample: sample, positions: tokens[rows].map { $0 - token })
        } else {
          try observer.add(part, sample: sample)
        }
      }
      (row, token) = (rows.upperBound, end)
    }
    precondition(row == value.rowCount, "a row per token")
  }

  /// The observations so far, by the producer of the site.
  var observations: [String: SiteObservations] {
    sites.mapValues { site in
      site.observers.reduce(into: SiteObservations()) { $1.store(in: &$0) }
    }
  }
}

extension Set<ObservationKind> {
  /// Tokens that moments of channels are gathered of: scales follow their fourth root, which more tokens hardly move.
  package static let momentTokenCount = 8192

  /// The samples of these lengths that are enough: where only moments of channels are asked for, those at even
  /// distances that have `momentTokenCount` tokens for each expert's share of them; else all.
  package func samples(of graph: Graph, lengths: [Int]) -> [Int] {
    let total = lengths.reduce(0, +)
    let spread = graph.sites.map { graph.tokensPerRow(of: $0) }.max() ?? 1
    guard self == [.channelMoments], let wanted = Self.momentTokenCount.multipliedChecked(by: spread), wanted < total
    else { return Array(lengths.indices) }
    // As many of all samples as of all tokens, rounded up.
    let count = (Double(wanted) / Double(total) * Double(lengths.count)).rounded(.up)
    return RowChoice.spread(Int(count), over: lengths.count)
  }

  /// The kinds without those that keep less than another of their kind.
  var withoutSmaller: [ObservationKind] {
    filter { kind in
      !contains { other in
        switch (kind, other) {
        case (.rows(let count), .rows(let more)), (.wholeSamples(let count), .wholeSamples(let more)): count < more
        default: false
        }
      }
    }
  }
}

extension ObservationKind {
  /// The rows that are kept of samples of these lengths, of a site that has a row for about one of `spread` tokens;
  /// nil where none are.
  fileprivate func choice(lengths: [Int], spread: Int = 1) -> RowChoice? {
    switch self {
    case .ranges, .sampleRanges, .channelMoments, .moments: nil
    case .rows(let count):
      RowChoice(rowCount: count.multipliedChecked(by: spread) ?? .max, lengths: lengths, limit: count)
    case .wholeSamples(let count): RowChoice(sampleCount: count, lengths: lengths)
    }
  }

  /// Memory in bytes that the observation of a site takes while it is made.
  package func byteCount(channelCount: Int, lengths: [Int]) -> Int {
    let count: Int? =
      switch self {
      case .ranges, .channelMoments: 0
      case .sampleRanges: lengths.count.multipliedChecked(by: channelCount)?.multipliedChecked(by: 8)
      case .moments: MomentObserver.byteCount(channelCount: channelCount)
      case .rows, .wholeSamples:
        choice(lengths: lengths)?.rowCount.multipliedChecked(by: channelCount)?.multipliedChecked(by: 4)
      }
    return count ?? .max
  }
}

extension Graph {
  /// Tokens for each that comes to the site, if a router sends as many to every expert.
  fileprivate func tokensPerRow(of site: Site) -> Int {
    guard case .expert(_, let router) = rows(of: site.producer), case .routing(let routing)? = self[router]?.operation
    else { return 1 }
    return max(routing.expertCount / routing.chosenCount, 1)
  }
}
