import Foundation
import OTCheckpoint
import OTConversion
import OTFoundation
import OTGraph
import OTModel
import OTObservation
import OTQuantization
import OTRuntime
import Testing
import _OTModelSupport
import _OTTestSupport

/// Statistics of the fixtures against those of the original implementations.
@Suite struct CalibratorTests {
  private static func calibrationIDs(_ fixture: Fixture) throws -> [[Int]] {
    let goldens = try fixture.goldens()
    return try (0..<32).map { try goldens.integers("calibration_ids", row: $0) }
  }

  static func statistics(
    _ fixture: Fixture, _ samples: [[Int]]? = nil, maximumByteCount: Int = 1 << 32
  ) throws -> ModelObservations {
    let tokens = try samples ?? calibrationIDs(fixture)
    var settings = Calibration()
    settings.threadCount = 2
    settings.maximumByteCount = maximumByteCount
    let samples = Calibration.Samples(
      tokens: tokens, run: CalibrationRun(texts: [], sampleCount: tokens.count, length: 128, seed: nil))
    return try settings.run(
      on: fixture.source(), samples: samples,
      sources: [FileRecord(name: "m", byteCount: 1, sha256: fixture.family)])
  }

  /// Float sums in another order, through four layers: relative to the channel's
  /// and to the site's largest value.
  private static func expectEqual(_ found: [Float], _ expected: [Float], _ name: String) {
    #expect(found.count == expected.count, "\(name)")
    let largest = expected.map(abs).max() ?? 0
    for (index, pair) in zip(found, expected).enumerated() {
      #expect(abs(pair.0 - pair.1) <= 1e-5 * largest + 1e-5 * abs(pair.1), "\(name), channel \(index): \(pair)")
    }
  }

  @Test(arguments: Fixture.decoders) func equalsTheReferencesFiles(_ fixture: Fixture) throws {
    let statistics = try Self.statistics(fixture)
    let graph = try fixture.graph()
    let scales = try ForeignStatistics.vectors(path: fixture.path("act_scales.pt"), kind: .absoluteMaximum)
    let sums = try ForeignStatistics.vectors(path: fixture.path("symmetrizations.pt"), kind: .midpointSum)
    let symmetrized = try ForeignStatistics.vectors(path: fixture.path("act_scales_sym.pt"), kind: .absoluteMaximum)
    var linearCount = 0
    for site in graph.sites {
      let range = try #require(statistics[site].ranges)
      #expect(range.sampleCount == 32)
      // The method's steps are max|x − z| / 127.
      let decided = try OutlierTune().plan(site, in: graph, bits: 8, statistics[site]).transform.scale
      for linear in site.consumers {
        linearCount += 1
        Self.expectEqual(
          zip(range.minima, range.maxima).map { max(-$0, $1) }, try #require(scales[linear]), linear)
        Self.expectEqual(range.midpointSum.map { Float($0) }, try #require(sums[linear]), linear)
        // The reference symmetrizes what norms feed and measures again.
        if site.isNormFed {
          Self.expectEqual(
            try #require(decided).map { $0 * 127 }, try #require(symmetrized[linear]), linear + " symmetrized")
        }
      }
    }
    #expect(linearCount == scales.count)
  }

  /// There are no statistics of the original implementation for BERT: each
  /// node is observed alone here, in one sequence after the other.
  @Test func bertAgreesWithPlainObservation() throws {
    let executor = try Fixture.bert.floatExecutor(threadCount: 1)
    let samples = Array(try Self.calibrationIDs(.bert).prefix(4))
    let statistics = try Self.statistics(.bert, samples)
    for site in executor.graph.sites {
      var columns: [[[Float]]] = []
      for sample in samples {
        _ = try executor.run(tokenIDs: sample) { value in
          guard value.name == site.producer else { return }
          let channelCount = value.channelCount
          columns.append(
            (0..<channelCount).map { channel in
              (0..<value.rowCount).map { value.values[$0 * channelCount + channel] }
            })
        }
      }
      let range = try #require(statistics[site].ranges)
      let sorted = columns.map { sample in sample.map { $0.sorted() } }
      func byChannel(_ value: (Int) throws -> Double) rethrows -> [Float] {
        try (0..<site.size).map { Float(try value($0)) }
      }
      // A batch multiplies in another order than a sequence alone.
      Self.expectEqual(
        range.minima, try byChannel { channel in Double(try #require(sorted.map { $0[channel][0] }.min())) },
        site.producer)
      Self.expectEqual(
        range.maxima,
        try byChannel { channel in Double(try #require(sorted.compactMap { $0[channel].last }.max())) }, site.producer)
      Self.expectEqual(
        range.midpointSum.map { Float($0) },
        byChannel { channel in
          sorted.reduce(0.0) { $0 + (Double($1[channel][0]) + Double($1[channel][$1[channel].count - 1])) / 2 }
        }, site.producer)
    }
  }

  @Test func halvesMergeToTheWhole() throws {
    let samples = try Self.calibrationIDs(.llama)
    let whole = try Self.statistics(.llama, Array(samples.prefix(8)))
    let merged = try Self.statistics(.llama, Array(samples.prefix(3)))
      .merged(with: Self.statistics(.llama, Array(samples[3..<8])))
    #expect(merged.sampleCount == 8 && merged.runs.count == 2)
    for (site, observed) in whole.sites {
      let range = try #require(observed.ranges)
      let other = try #require(merged.sites[site]?.ranges)
      Self.expectEqual(other.minima, range.minima, site)
      Self.expectEqual(other.maxima, range.maxima, site)
      Self.expectEqual(other.midpointSum.map { Float($0) }, range.midpointSum.map { Float($0) }, site)
      #expect(other.sampleCount == range.sampleCount)
    }
    #expect(throws: Refusal.self) { try whole.merged(with: Self.statistics(.opt, Array(samples.prefix(1)))) }
  }

  /// The BLAS rounds by how many rows it is given, and batches are as large as memory allows.
  @Test(arguments: [Fixture.opt, .llama]) func memoryDoesNotChangeWhatIsMeasured(_ fixture: Fixture) throws {
    let samples = try Self.calibrationIDs(fixture).enumerated().map { index, sample in
      Array(sample.prefix(index % 5 == 4 ? 1 : 40 + 13 * (index % 7)))
    }
    let plenty = try Self.statistics(fixture, samples)
    // Parameters are kept, or read again for every batch.
    for byteCount in [16 << 20, 11 << 20] {
      let little = try Self.statistics(fixture, samples, maximumByteCount: byteCount)
      #expect(little.sites == plenty.sites, "\(byteCount) bytes")
    }
  }

  @Test func tooLittleMemoryNamesTheLeast() throws {
    let samples = [Array(1...200), Array(1...200), Array(1...200)]
    let refusal = try #require(throws: Refusal.self) { try Self.statistics(.opt, samples, maximumByteCount: 1000) }
    #expect(refusal.rule == "calibration-memory")
    let least = try #require(refusal.message.split(separator: " ").compactMap { Int($0) }.last)
    #expect(try Self.statistics(.opt, samples, maximumByteCount: least).sampleCount == 3)
    #expect(throws: refusal) { try Self.statistics(.opt, samples, maximumByteCount: least - 1) }
  }

  @Test func theSameSamplesDoNotCountTwice() throws {
    let samples = try Self.calibrationIDs(.opt)
    let one = try Self.statistics(.opt, Array(samples.prefix(1)))
    let both = try one.merged(with: Self.statistics(.opt, Array(samples[1..<3])))
    for other in [one, both] {
      let refusal = #expect(throws: Refusal.self) { try both.merged(with: other) }
      #expect(refusal?.rule == "statistics-twice")
    }
  }

  @Test func samplesOfDifferentLengths() throws {
    let statistics = try Self.statistics(.opt, [[2, 5, 9], [], [7], Array(1...200)])
    #expect(statistics.sites.values.allSatisfy { $0.ranges?.sampleCount == 3 })
    #expect(throws: Refusal.self) { try Self.statistics(.opt, [[], []]) }
    #expect(throws: Refusal.self) { try Self.statistics(.opt, [[1], [4096]]) }
  }
}
