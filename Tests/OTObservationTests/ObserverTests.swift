import OTFoundation
import OTGraph
import OTObservation
import OTRuntime
import Testing
import _OTTestSupport

/// Observers against plain loops in float64, on random samples.
@Suite struct ObserverTests {
  /// Samples of these lengths with channels that differ in size, as outliers do.
  private static func samples(_ lengths: [Int], channelCount: Int, seed: UInt64) -> [[Float]] {
    var generator = SeededGenerator(seed: seed)
    return lengths.map { length in
      (0..<length * channelCount).map { index in
        Float.random(in: -1...1, using: &generator) * (index % channelCount % 17 == 3 ? 40 : 1)
          + Float(index % channelCount % 5)
      }
    }
  }

  private static func moments(_ samples: [[Float]], channelCount: Int, threadCount: Int) throws -> SecondMoments {
    let observer = MomentObserver(channelCount: channelCount, threadCount: threadCount)
    for (index, sample) in samples.enumerated() {
      try sample.withUnsafeBufferPointer { try observer.add($0, sample: index) }
    }
    var site = SiteObservations()
    observer.store(in: &site)
    return try #require(site.moments)
  }

  /// Differences in units of √(Σxᵢ² · Σxⱼ²), which bounds every product of channels.
  private static func expectProducts(
    of rows: [[Double]], _ moments: SecondMoments, tolerance: Double, _ comment: Comment
  ) {
    let channelCount = moments.channelCount
    let squares = (0..<channelCount).map { channel in rows.reduce(0) { $0 + $1[channel] * $1[channel] } }
    var worst = 0.0
    for i in 0..<channelCount {
      let sum = rows.reduce(0) { $0 + $1[i] }
      worst = max(worst, abs(moments.sums[i] - sum) / (squares[i] * Double(rows.count)).squareRoot())
      for j in 0..<channelCount {
        let product = rows.reduce(0) { $0 + $1[i] * $1[j] }
        let difference = abs(moments.products[i * channelCount + j] - product)
        worst = max(worst, difference / (squares[i] * squares[j]).squareRoot())
      }
    }
    #expect(worst <= tolerance, comment)
  }

  private static func rows(_ samples: [[Float]], channelCount: Int) -> [[Double]] {
    samples.flatMap { sample in
      stride(from: 0, to: sample.count, by: channelCount).map { start in
        sample[start..<start + channelCount].map { Double($0) }
      }
    }
  }

  /// One tile and several, blocks of a sample and rests of one.
  @Test(arguments: [([1], 1), ([3, 1, 40], 7), ([5, 700, 1], 131), ([513, 2], 128)] as [([Int], Int)])
  func momentsEqualPlainSums(_ lengths: [Int], _ channelCount: Int) throws {
    let seed = UInt64.random(in: .min ... .max)
    let samples = Self.samples(lengths, channelCount: channelCount, seed: seed)
    let moments = try Self.moments(samples, channelCount: channelCount, threadCount: 2)
    let rows = Self.rows(samples, channelCount: channelCount)
    #expect(moments.rowCount == rows.count)
    // Products of up to 512 rows are added in float32.
    Self.expectProducts(of: rows, moments, tolerance: 1e-5, "seed \(seed)")
    #expect(moments.mean == moments.sums.map { $0 / Double(rows.count) })
    // Bit for bit: every tile has one order of its sums.
    for threadCount in [1, 3] {
      let other = try Self.moments(samples, channelCount: channelCount, threadCount: threadCount)
      let isEqual = other == moments
      #expect(isEqual, "seed \(seed), \(threadCount) threads")
    }
  }

  @Test func momentsOfTransformedValues() throws {
    let channelCount = 9
    let seed = UInt64.random(in: .min ... .max)
    let samples = Self.samples([30, 12], channelCount: channelCount, seed: seed)
    let shift = (0..<channelCount).map { Float($0) / 2 - 1 }
    let scale = (0..<channelCount).map { 0.25 + Float($0) }
    let moments = try Self.moments(samples, channelCount: channelCount, threadCount: 1)
    #expect(moments.transformed(by: .identity) == moments)
    for transform in [
      ChannelTransform(shift: shift, scale: scale), ChannelTransform(shift: shift), ChannelTransform(scale: scale),
    ] {
      let rows = Self.rows(samples, channelCount: channelCount).map { row in
        row.enumerated().map { channel, value in
          (value - Double(transform.shift?[channel] ?? 0)) / Double(transform.scale?[channel] ?? 1)
        }
      }
      Self.expectProducts(
        of: rows, moments.transformed(by: transform), tolerance: 1e-5, "seed \(seed), \(transform)")
    }
  }

  @Test func momentsOfTwoRunsAreAdded() throws {
    let seed = UInt64.random(in: .min ... .max)
    let samples = Self.samples([7, 20, 5], channelCount: 6, seed: seed)
    let first = try Self.moments(Array(samples[..<1]), channelCount: 6, threadCount: 1)
    let merged = first.merged(with: try Self.moments(Array(samples[1...]), channelCount: 6, threadCount: 1))
    #expect(merged.rowCount == 32)
    Self.expectProducts(of: Self.rows(samples, channelCount: 6), merged, tolerance: 1e-5, "seed \(seed)")
  }

  /// Outlier Suppression+ and OutlierTune mean different middles.
  @Test func midpointsOfTheWholeAndOfSamples() throws {
    let observer = RangeObserver(channelCount: 2)
    // Samples [0, 4] and [2, 2] of channel 0, [−1, 1] and [5, 7] of channel 1.
    for (index, sample) in [[0, -1, 4, 1], [2, 5, 2, 7]].enumerated() {
      sample.map { Float($0) }.withUnsafeBufferPointer { observer.add($0, sample: index) }
    }
    var site = SiteObservations()
    observer.store(in: &site)
    let ranges = try #require(site.ranges)
    #expect(ranges.minima == [0, -1] && ranges.maxima == [4, 7] && ranges.sampleCount == 2)
    #expect(ranges.midpointSum == [4, 6] && ranges.meanMidpoint == [2, 3] && ranges.midpoint == [2, 3])
    #expect(ranges.absoluteMaximum == [4, 7] && site.absoluteMaximum == [4, 7])
    let third: [Float] = [20, 0]
    third.withUnsafeBufferPointer { observer.add($0, sample: 2) }
    observer.store(in: &site)
    #expect(site.ranges?.midpoint == [10, 3] && site.ranges?.meanMidpoint == [8, 2])
  }

  @Test func driftIsThatOfPlainLoops() throws {
    let (n, lengths) = (270, [700, 3])
    let float = Self.samples(lengths, channelCount: n, seed: 7)
    let other = Self.samples(lengths, channelCount: n, seed: 8)
    let quantized = zip(float, other).map { zip($0, $1).map { $0 + $1 / 64 } }
    func drift(threadCount: Int) throws -> [Double] {
      var drift = InputDrift(channelCount: n, threadCount: threadCount)
      for (x, y) in zip(float, quantized) {
        let rowCount = x.count / n
        try drift.add(
          float: Matrix(rowCount: rowCount, channelCount: n, values: x),
          quantized: Matrix(rowCount: rowCount, channelCount: n, values: y))
      }
      return drift.products
    }
    let products = try drift(threadCount: 2)
    let one = try drift(threadCount: 1)
    #expect(products == one)
    for (i, j) in [(0, 0), (3, 269), (269, 3), (255, 256), (100, 20)] {
      var (sum, size) = (0.0, 0.0)
      for (x, y) in zip(float, quantized) {
        for row in stride(from: 0, to: x.count, by: n) {
          let product = Double(x[row + i] - y[row + i]) * Double(y[row + j])
          sum += product
          size += abs(product)
        }
      }
      #expect(abs(products[i * n + j] - sum) < 1e-6 * size, "\(i), \(j)")
    }
  }
}
