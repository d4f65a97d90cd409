/// Gathers the ranges of a site's channels.
final class RangeObserver: SiteObserver {
  private let channelCount: Int
  private var ranges: SiteRanges?

  init(channelCount: Int) { self.channelCount = channelCount }

  func add(_ values: UnsafeBufferPointer<Float>, sample: Int) {
    var extremes = ChannelRanges(channelCount: channelCount)
    extremes.add(values)
    let one = SiteRanges(
      extremes: extremes,
      midpointSum: zip(extremes.minima, extremes.maxima).map { (Double($0) + Double($1)) / 2 }, sampleCount: 1)
    ranges = ranges?.merged(with: one) ?? one
  }

  func store(in site: inout SiteObservations) { site.ranges = ranges }
}
