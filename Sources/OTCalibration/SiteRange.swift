import OTFoundation
import OTQuantization

/// What calibration measured on one site, by channel, over a number of samples.
package struct SiteRange: Sendable, Hashable {
  /// The least value of each channel.
  package internal(set) var minimum: [Float]
  /// The greatest value of each channel, not below the least.
  package internal(set) var maximum: [Float]
  /// The sum over the samples of each sample's (maximum + minimum) / 2.
  package internal(set) var midpointSum: [Double]
  /// Samples that the sums are over, at least 1.
  package internal(set) var sampleCount: Int

  /// Channels of the site.
  package var channelCount: Int { minimum.count }

  /// What both measured together.
  ///
  /// - Precondition: they have the same number of channels.
  func merged(with other: SiteRange) -> SiteRange {
    precondition(channelCount == other.channelCount, "not the same site")
    return SiteRange(
      minimum: zip(minimum, other.minimum).map { min($0, $1) },
      maximum: zip(maximum, other.maximum).map { max($0, $1) },
      midpointSum: zip(midpointSum, other.midpointSum).map { $0 + $1 },
      sampleCount: sampleCount + other.sampleCount)
  }

  /// What a method needs: with symmetrization the shift z, the mean of the
  /// samples' midpoints, and max|x − z| = max(maximum − z, z − minimum); without,
  /// max|x|. No second pass over the text is needed.
  func statistics(isSymmetrized: Bool) -> SiteStatistics {
    guard isSymmetrized else {
      return SiteStatistics(absoluteMaximum: zip(minimum, maximum).map { max(abs($0), abs($1)) })
    }
    let midpoint = midpointSum.map { Float($0 / Double(sampleCount)) }
    return SiteStatistics(
      midpoint: midpoint,
      absoluteMaximum: midpoint.indices.map { max(maximum[$0] - midpoint[$0], midpoint[$0] - minimum[$0]) })
  }
}
