import OTObservation
import OTVerify
import Testing
import _OTTestSupport

/// Histograms and ranges of values.
@Suite struct DistributionTests {
  private func histogram(_ parts: [[Float]]) -> ValueHistogram {
    var histogram = ValueHistogram()
    for part in parts { part.withUnsafeBufferPointer { histogram.add($0) } }
    return histogram
  }

  @Test(arguments: [Float(1e-7), 0.3, 1, 1000, 1e30, .greatestFiniteMagnitude])
  func countsAreThoseOfTheBins(largest: Float) {
    var random = SeededGenerator()
    let values = (0..<2000).map { _ in Float.random(in: -largest / 2...largest / 2, using: &random) * 2 }
    let histogram = histogram([values])
    // Bin by bin, by comparing with its ends.
    let width = Double(histogram.halfRange) / Double(ValueHistogram.binCount / 2)
    for (bin, count) in histogram.counts.enumerated() {
      let start = Double(bin - ValueHistogram.binCount / 2) * width
      let expected = values.count { value in
        (Double(value) >= start || bin == 0)
          && (Double(value) < start + width || bin == ValueHistogram.binCount - 1)
      }
      #expect(count == expected, "bin \(bin), seed \(random.seed)")
    }
    #expect(histogram.total == values.count)
  }

  @Test func theOrderDoesNotMatter() {
    var random = SeededGenerator()
    let small = (0..<500).map { _ in Float.random(in: -1...1, using: &random) }
    let large = (0..<500).map { _ in Float.random(in: -300...300, using: &random) }
    #expect(histogram([small, large]) == histogram([large, small]), "seed \(random.seed)")
    #expect(histogram([small + large]) == histogram([large, small]), "seed \(random.seed)")
  }

  @Test func whatIsNotFiniteIsCountedApart() {
    let histogram = histogram([[.nan, .infinity, -.infinity, 0, -0.0, .leastNonzeroMagnitude]])
    #expect(histogram.nonFiniteCount == 3)
    #expect(histogram.counts.reduce(0, +) == 3)
    #expect(histogram.total == 6)
  }

  @Test func ranges() {
    var ranges = ChannelRanges(channelCount: 3)
    [Float(1), -2, .nan, 0.5, -9, .nan].withUnsafeBufferPointer { ranges.add($0) }
    #expect(ranges.minima == [0.5, -9, .infinity])
    #expect(ranges.maxima == [1, -2, -.infinity])
    #expect(ranges.largestMagnitude == 9)
    let scaled = ChannelRanges(minima: [-1, -2], maxima: [3, 4]).scaled(by: [2, 0.5])
    #expect(scaled == ChannelRanges(minima: [-2, -1], maxima: [6, 2]))
    #expect(ChannelRanges(minima: [-1, -1, -1], maxima: [1, 1, 50]).outlierRatio == 50)
    #expect(ChannelRanges(minima: [0, 0, 0], maxima: [0, 0, 0]).outlierRatio == 1)
  }
}
