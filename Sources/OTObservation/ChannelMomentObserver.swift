import OTGraph

/// The sum and the sum of squares of each channel of a site, over the rows of all samples, in float64.
package struct ChannelMoments: Sendable, Hashable {
  /// Rows that the sums are over.
  package let rowCount: Int
  /// Σ x of each channel.
  package let sums: [Double]
  /// Σ x² of each channel.
  package let squares: [Double]

  /// Moments as measured.
  ///
  /// - Precondition: there is a square for each sum.
  package init(rowCount: Int, sums: [Double], squares: [Double]) {
    precondition(sums.count == squares.count)
    (self.rowCount, self.sums, self.squares) = (rowCount, sums, squares)
  }

  /// Channels of the site.
  package var channelCount: Int { sums.count }
  /// The mean of each channel.
  package var mean: [Double] { sums.map { $0 / Double(max(rowCount, 1)) } }
  /// The mean square of each channel.
  package var meanSquare: [Double] { squares.map { $0 / Double(max(rowCount, 1)) } }
  /// The variance of each channel, not below 0.
  package var variance: [Double] { zip(meanSquare, mean).map { max($0 - $1 * $1, 0) } }

  /// The moments of both together.
  ///
  /// - Precondition: they have the same number of channels.
  func merged(with other: ChannelMoments) -> ChannelMoments {
    precondition(channelCount == other.channelCount, "not the same site")
    return ChannelMoments(
      rowCount: rowCount + other.rowCount, sums: zip(sums, other.sums).map { $0 + $1 },
      squares: zip(squares, other.squares).map { $0 + $1 })
  }

  /// The moments of (x − z) ⊘ s.
  func transformed(by transform: ChannelTransform) -> ChannelMoments {
    let count = Double(rowCount)
    var (sums, squares) = (sums, squares)
    for channel in sums.indices {
      let shift = Double(transform.shift?[channel] ?? 0)
      let scale = Double(transform.scale?[channel] ?? 1)
      squares[channel] = (squares[channel] - shift * (2 * sums[channel] - count * shift)) / (scale * scale)
      sums[channel] = (sums[channel] - count * shift) / scale
    }
    return ChannelMoments(rowCount: rowCount, sums: sums, squares: squares)
  }
}

/// Gathers the moments of a site's channels.
package final class ChannelMomentObserver: SiteObserver {
  private var rowCount = 0
  private var sums: [Double]
  private var squares: [Double]

  /// An observer that has seen nothing.
  package init(channelCount: Int) {
    sums = [Double](repeating: 0, count: channelCount)
    squares = sums
  }

  /// Adds the rows of a sample.
  package func add(_ values: UnsafeBufferPointer<Float>, sample: Int) {
    let channelCount = sums.count
    rowCount += values.count / channelCount
    sums.withUnsafeMutableBufferPointer { sums in
      squares.withUnsafeMutableBufferPointer { squares in
        for start in stride(from: 0, to: values.count, by: channelCount) {
          for channel in 0..<channelCount {
            let value = Double(values[start + channel])
            sums[channel] += value
            squares[channel] += value * value
          }
        }
      }
    }
  }

  /// Stores the moments.
  package func store(in site: inout SiteObservations) {
    site.channelMoments = ChannelMoments(rowCount: rowCount, sums: sums, squares: squares)
  }
}
