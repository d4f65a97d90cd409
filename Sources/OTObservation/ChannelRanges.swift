/// The least and the greatest value of each channel.
package struct ChannelRanges: Sendable, Hashable {
  /// Least values; +∞ before anything has been seen. NaN is passed over.
  package private(set) var minima: [Float]
  /// Greatest values; −∞ before anything has been seen. NaN is passed over.
  package private(set) var maxima: [Float]

  /// Nothing seen yet.
  package init(channelCount: Int) {
    minima = [Float](repeating: .infinity, count: channelCount)
    maxima = [Float](repeating: -.infinity, count: channelCount)
  }

  /// Ranges as given.
  ///
  /// - Precondition: both have one entry per channel.
  package init(minima: [Float], maxima: [Float]) {
    precondition(minima.count == maxima.count)
    self.minima = minima
    self.maxima = maxima
  }

  /// Widens the ranges to hold `values`, `[rows, channels]`, row-major.
  ///
  /// - Precondition: the rows are whole.
  package mutating func add(_ values: UnsafeBufferPointer<Float>) {
    let channelCount = minima.count
    precondition(channelCount > 0 && values.count % channelCount == 0)
    minima.withUnsafeMutableBufferPointer { minima in
      maxima.withUnsafeMutableBufferPointer { maxima in
        for start in stride(from: 0, to: values.count, by: channelCount) {
          for channel in 0..<channelCount {
            let value = values[start + channel]
            minima[channel] = value < minima[channel] ? value : minima[channel]
            maxima[channel] = value > maxima[channel] ? value : maxima[channel]
          }
        }
      }
    }
  }

  /// The ranges that hold what both hold.
  ///
  /// - Precondition: they have the same number of channels.
  package func merged(with other: ChannelRanges) -> ChannelRanges {
    precondition(minima.count == other.minima.count)
    return ChannelRanges(
      minima: zip(minima, other.minima).map { min($0, $1) }, maxima: zip(maxima, other.maxima).map { max($0, $1) })
  }

  /// The ranges of values multiplied by `factors`, channel by channel.
  ///
  /// - Precondition: there is a positive factor for each channel.
  package func scaled(by factors: [Float]) -> ChannelRanges {
    precondition(factors.count == minima.count)
    return ChannelRanges(
      minima: zip(minima, factors).map { $0 * $1 }, maxima: zip(maxima, factors).map { $0 * $1 })
  }

  /// The largest magnitude of any channel.
  package var largestMagnitude: Float {
    zip(minima, maxima).reduce(0) { $1.0 <= $1.1 ? max($0, abs($1.0), abs($1.1)) : $0 }
  }

  /// The largest magnitude divided by the median of the channels': 1 where all
  /// channels are alike, large where outliers waste the range.
  package var outlierRatio: Double {
    let magnitudes = zip(minima, maxima).map { max(abs($0), abs($1)) }.filter(\.isFinite).sorted()
    guard let largest = magnitudes.last else { return 1 }
    let median = magnitudes[magnitudes.count / 2]
    return median > 0 ? Double(largest) / Double(median) : largest > 0 ? .infinity : 1
  }
}
