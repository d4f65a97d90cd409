import OTObservation

/// The values of a site in two models.
struct SiteActivity: Sendable {
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

  /// Adds values that come after these.
  mutating func add(_ other: SiteActivity) {
    sourceRanges.add(other.sourceRanges)
    packedRanges.add(other.packedRanges)
    sourceHistogram.add(other.sourceHistogram)
    packedHistogram.add(other.packedHistogram)
    clippedCount += other.clippedCount
    valueCount += other.valueCount
  }
}

extension ChannelRanges {
  /// Widens the ranges by what comes after them; as where values are added, of zeros the first keeps its sign.
  fileprivate mutating func add(_ next: ChannelRanges) {
    self = ChannelRanges(
      minima: zip(minima, next.minima).map { $1 < $0 ? $1 : $0 },
      maxima: zip(maxima, next.maxima).map { $1 > $0 ? $1 : $0 })
  }
}
