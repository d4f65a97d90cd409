import OTRuntime

/// Rows of a site's value that were kept, in the order of the samples.
package struct KeptRows: Sendable, Hashable {
  /// The origin of a row.
  package struct Place: Sendable, Hashable {
    /// The sample, counted from 0.
    package let sample: Int
    /// The row of the sample: the token's position.
    package let row: Int
  }

  /// Channels of the site.
  package let channelCount: Int
  /// Samples that the rows were chosen from.
  package let sampleCount: Int
  /// The values, `[rows, channelCount]`, row-major.
  package internal(set) var values: [Float] = []
  /// The origin of each row.
  package internal(set) var places: [Place] = []

  init(channelCount: Int, sampleCount: Int) {
    self.channelCount = channelCount
    self.sampleCount = sampleCount
  }

  /// All rows of some samples, whose values were seen elsewhere; nil unless they have the same channels.
  package init?(_ samples: [Matrix]) {
    guard let channelCount = samples.first?.channelCount, samples.allSatisfy({ $0.channelCount == channelCount }) else {
      return nil
    }
    self.init(channelCount: channelCount, sampleCount: samples.count)
    values = samples.flatMap(\.values)
    places = samples.enumerated().flatMap { sample, rows in (0..<rows.rowCount).map { Place(sample: sample, row: $0) } }
  }

  /// All rows, one below the other.
  package var matrix: Matrix { Matrix(rowCount: places.count, channelCount: channelCount, values: values) }

  /// The rows of each sample that has some, in order.
  package var matrices: [Matrix] {
    var result: [Matrix] = []
    var start = 0
    while start < places.count {
      let end = places[start...].firstIndex { $0.sample != places[start].sample } ?? places.count
      result.append(
        Matrix(
          rowCount: end - start, channelCount: channelCount,
          values: Array(values[start * channelCount..<end * channelCount])))
      start = end
    }
    return result
  }

  /// The rows of both, the other's samples counted after these.
  ///
  /// - Precondition: they have the same number of channels.
  func merged(with other: KeptRows) -> KeptRows {
    precondition(channelCount == other.channelCount, "not the same site")
    var result = KeptRows(channelCount: channelCount, sampleCount: sampleCount + other.sampleCount)
    result.values = values + other.values
    result.places = places + other.places.map { Place(sample: sampleCount + $0.sample, row: $0.row) }
    return result
  }
}

/// The rows to keep, decided before the first is seen: by the lengths of the samples alone.
struct RowChoice: Sendable {
  /// Rows of each sample.
  private(set) var rows: [Int: [Int]] = [:]
  private(set) var sampleCount = 0
  /// The most rows that are kept of those.
  private var limit = Int.max
  var rowCount: Int { min(rows.values.reduce(0) { $0 + $1.count }, limit) }

  init() {}

  /// At most `rowCount` rows at even distances in all samples, one after the other; `limit` of them are kept, where
  /// a site does not have all.
  init(rowCount: Int, lengths: [Int], limit: Int = .max) {
    sampleCount = lengths.count
    self.limit = limit
    var chosen = RowChoice.spread(rowCount, over: lengths.reduce(0, +))[...]
    var first = 0
    for (sample, length) in lengths.enumerated() {
      let own = chosen.prefix { $0 < first + length }
      if !own.isEmpty { rows[sample] = own.map { $0 - first } }
      chosen = chosen.dropFirst(own.count)
      first += length
    }
  }

  /// All rows of at most `sampleCount` samples at even distances.
  init(sampleCount: Int, lengths: [Int]) {
    self.sampleCount = lengths.count
    let filled = lengths.indices.filter { lengths[$0] > 0 }
    for index in RowChoice.spread(sampleCount, over: filled.count) {
      rows[filled[index]] = Array(0..<lengths[filled[index]])
    }
  }

  /// `count` of `0..<total`, each in the middle of its equal share; all where there are no more.
  static func spread(_ count: Int, over total: Int) -> [Int] {
    guard count < total else { return Array(0..<total) }
    return (0..<max(count, 0)).map { (2 * $0 + 1) * total / (2 * count) }
  }
}

/// Keeps chosen rows of a site.
final class RowObserver: SiteObserver {
  private let choice: RowChoice
  private let part: WritableKeyPath<SiteObservations, KeptRows?>
  private var kept: KeptRows

  init(channelCount: Int, choice: RowChoice, storingTo part: WritableKeyPath<SiteObservations, KeptRows?>) {
    self.choice = choice
    self.part = part
    kept = KeptRows(channelCount: channelCount, sampleCount: choice.sampleCount)
  }

  func add(_ values: UnsafeBufferPointer<Float>, sample: Int) {
    for row in choice.rows[sample, default: []] { add(values, row: row, sample: sample, position: row) }
  }

  func add(_ values: UnsafeBufferPointer<Float>, sample: Int, positions: [Int]) {
    let chosen = Set(choice.rows[sample, default: []])
    for (row, position) in positions.enumerated()
    where chosen.contains(position) && kept.places.count < choice.rowCount {
      add(values, row: row, sample: sample, position: position)
    }
  }

  private func add(_ values: UnsafeBufferPointer<Float>, row: Int, sample: Int, position: Int) {
    kept.values += values[row * kept.channelCount..<(row + 1) * kept.channelCount]
    kept.places.append(KeptRows.Place(sample: sample, row: position))
  }

  func store(in site: inout SiteObservations) { site[keyPath: part] = kept }
}
