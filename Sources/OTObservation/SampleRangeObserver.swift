/// Gathers the ranges of a site's channels in each sample on its own.
final class SampleRangeObserver: SiteObserver {
  private let channelCount: Int
  private var samples: [ChannelRanges] = []

  init(channelCount: Int) { self.channelCount = channelCount }

  func add(_ values: UnsafeBufferPointer<Float>, sample: Int) {
    var ranges = ChannelRanges(channelCount: channelCount)
    ranges.add(values)
    samples.append(ranges)
  }

  func store(in site: inout SiteObservations) { site.sampleRanges = samples }
}
