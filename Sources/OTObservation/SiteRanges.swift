/// The ranges of a site's channels over a number of samples.
package struct SiteRanges: Sendable, Hashable {
  /// The least and the greatest value of each channel.
  package let extremes: ChannelRanges
  /// The sum over the samples of each sample's (maximum + minimum) / 2.
  package let midpointSum: [Double]
  /// Samples that the sums are over, at least 1.
  package let sampleCount: Int

  /// Ranges as measured.
  ///
  /// - Precondition: there is a sum for each channel.
  package init(extremes: ChannelRanges, midpointSum: [Double], sampleCount: Int) {
    precondition(extremes.minima.count == midpointSum.count)
    self.extremes = extremes
    self.midpointSum = midpointSum
    self.sampleCount = sampleCount
  }

  /// The ranges of one sample.
  init(_ sample: ChannelRanges) {
    self.init(
      extremes: sample, midpointSum: zip(sample.minima, sample.maxima).map { (Double($0) + Double($1)) / 2 },
      sampleCount: 1)
  }

  /// Channels of the site.
  package var channelCount: Int { midpointSum.count }
  /// The least value of each channel.
  package var minima: [Float] { extremes.minima }
  /// The greatest value of each channel, not below the least.
  package var maxima: [Float] { extremes.maxima }
  /// max|x| of each channel.
  package var absoluteMaximum: [Float] { zip(minima, maxima).map { max(abs($0), abs($1)) } }

  /// The mean over the samples of each sample's midpoint, for each channel (OutlierTune).
  package var meanMidpoint: [Float] { midpointSum.map { Float($0 / Double(sampleCount)) } }
  /// (maximum + minimum) / 2 over all samples, for each channel (Outlier Suppression+).
  package var midpoint: [Float] { zip(minima, maxima).map { Float((Double($0) + Double($1)) / 2) } }

  /// The union of both.
  ///
  /// - Precondition: they have the same number of channels.
  func merged(with other: SiteRanges) -> SiteRanges {
    precondition(channelCount == other.channelCount, "not the same site")
    return SiteRanges(
      extremes: extremes.merged(with: other.extremes),
      midpointSum: zip(midpointSum, other.midpointSum).map { $0 + $1 },
      sampleCount: sampleCount + other.sampleCount)
  }
}
