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

  /// Puts what was gathered into `site`.
  func store(in site: inout SiteObservations)
}

/// The observers of several sites, which see what an executor shows on its calling thread.
final class SiteObservers {
  private let lengths: [Int]
  private let sites: [String: (size: Int, observers: [any SiteObserver])]

  /// - Parameter lengths: rows of each sample of calibration.
  init(_ sites: [Site], kinds: Set<ObservationKind>, lengths: [Int], threadCount: Int) {
    self.lengths = lengths
    let kinds = kinds.withoutSmaller
    let choices = Dictionary(
      uniqueKeysWithValues: kinds.compactMap { kind in kind.choice(lengths: lengths).map { (kind, $0) } })
    let places = sites.map { site -> (String, (size: Int, observers: [any SiteObserver])) in
      let observers = kinds.map { kind -> any SiteObserver in
        switch kind {
        case .ranges: RangeObserver(channelCount: site.size)
        case .channelMoments: ChannelMomentObserver(channelCount: site.size)
        case .sampleRanges: SampleRangeObserver(channelCount: site.size)
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
    var row = 0
    for sample in samples {
      let rows = row..<row + lengths[sample]
      let part = UnsafeBufferPointer(
        rebasing: value.values[rows.lowerBound * channelCount..<rows.upperBound * channelCount])
      for observer in site.observers { try observer.add(part, sample: sample) }
      row = rows.upperBound
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
  /// The rows that are kept of samples of these lengths; nil where none are.
  fileprivate func choice(lengths: [Int]) -> RowChoice? {
    switch self {
    case .ranges, .sampleRanges, .channelMoments, .moments: nil
    case .rows(let count): RowChoice(rowCount: count, lengths: lengths)
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
