/// Gathers the ranges of a site's channels in each sample on its own.
final class SampleRangeObserver: SiteObserver {
  private let channelCount: Int
  private var samples: [ChannelRanges]

  /// An observer that has seen samples with these ranges.
  init(channelCount: Int, samples: [ChannelRanges] = []) {
    (self.channelCount, self.samples) = (channelCount, samples)
  }

  func add(_ values: UnsafeBufferPointer<Float>, sample: Int) {
    var ranges = ChannelRanges(channelCount: channelCount)
    ranges.add(values)
    samples.append(ranges)
  }

  func store(in site: inout SiteObservations) { site.sampleRanges = samples }
}
