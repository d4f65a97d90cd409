/// Gathers the ranges of a site's channels.
package final class RangeObserver: SiteObserver {
  private let channelCount: Int
  private var ranges: SiteRanges?

  /// An observer that has seen nothing, or samples with these ranges.
  package init(channelCount: Int, ranges: SiteRanges? = nil) {
    self.channelCount = channelCount
    self.ranges = ranges
  }

  /// Adds the rows of a sample.
  package func add(_ values: UnsafeBufferPointer<Float>, sample: Int) {
    var extremes = ChannelRanges(channelCount: channelCount)
    extremes.add(values)
    let one = SiteRanges(extremes)
    ranges = ranges?.merged(with: one) ?? one
  }

  /// Stores the ranges; nil where no sample was seen.
  package func store(in site: inout SiteObservations) { site.ranges = ranges }
}
