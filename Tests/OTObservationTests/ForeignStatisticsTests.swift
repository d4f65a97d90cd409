import OTCheckpoint
import OTConversion
import OTFoundation
import OTGraph
import OTModel
import OTObservation
import OTQuantization
import OTTensor
import Testing
import _OTTestSupport

/// Files of other tools as observations, and what a method makes of them.
@Suite struct ForeignStatisticsTests {
  private static func graph(_ family: String) throws -> Graph {
    try SourceModel(path: Fixtures.path("models/\(family)-mini")).graph()
  }

  private static func write(_ vectors: [String: [Float]], to path: String) throws {
    let names = vectors.keys.sorted()
    var writer = try SafetensorsWriter(
      path: path,
      entries: names.map { name in
        .init(name: name + ".input", elementType: .f32, shape: try #require(Shape([vectors[name]?.count ?? 0])))
      })
    for name in names { try #require(vectors[name]).withUnsafeBytes { try writer.append($0) } }
    try writer.commit()
  }

  @Test(arguments: ["opt", "bloom", "llama"]) func filesBecomeObservations(_ family: String) throws {
    let folder = Fixtures.path("models/\(family)-mini")
    let graph = try Self.graph(family)
    let files = ForeignStatistics(
      scales: folder + "/act_scales_sym.pt", symmetrizations: folder + "/symmetrizations.pt", sampleCount: 32)
    let observations = try files.observations(of: graph)
    let maxima = try ForeignStatistics.vectors(path: files.scales, kind: .absoluteMaximum)
    let sums = try ForeignStatistics.vectors(path: folder + "/symmetrizations.pt", kind: .midpointSum)
    #expect(observations.family == family && observations.sources.isEmpty && observations.file == nil)
    #expect(Set(observations.sites.keys) == Set(graph.sites.map(\.producer)))
    for site in graph.sites {
      let scales = try #require(observations[site].foreignScales)
      #expect(observations[site].ranges == nil && observations[site].absoluteMaximum == nil)
      for linear in site.consumers {
        #expect(scales.absoluteMaximum == maxima[linear])
        #expect(scales.midpoint == sums[linear]?.map { $0 / 32 })
      }
    }
    // The same numbers in the other format are the same observations.
    try withTemporaryFolder { temporary in
      try Self.write(maxima, to: temporary + "/scales")
      try Self.write(sums, to: temporary + "/sums")
      let other = ForeignStatistics(
        scales: temporary + "/scales", symmetrizations: temporary + "/sums", sampleCount: 32)
      #expect(try other.observations(of: graph).sites == observations.sites)
    }
    let plain = try ForeignStatistics(scales: folder + "/act_scales.pt").observations(of: graph)
    let unshifted = try ForeignStatistics.vectors(path: folder + "/act_scales.pt", kind: .absoluteMaximum)
    for site in graph.sites { #expect(plain[site].absoluteMaximum == unshifted[site.consumers[0]]) }
  }

  /// Ranges and foreign scales that say the same give the same decision, and symmetrization is the
  /// method's: z = mean of midpoints, σ = max(max − z, z − min) / 31.
  @Test func theMethodSymmetrizes() throws {
    let graph = try Self.graph("opt")
    let site = try #require(graph.sites.first { $0.isNormFed })
    let seed = UInt64.random(in: .min ... .max)
    var generator = SeededGenerator(seed: seed)
    let minima = (0..<site.size).map { _ in Float.random(in: -8...0, using: &generator) }
    let maxima = (0..<site.size).map { _ in Float.random(in: 0...8, using: &generator) }
    let sums = (0..<site.size).map { _ in Double.random(in: -9...9, using: &generator) }
    let ranges = SiteRanges(
      extremes: ChannelRanges(minima: minima, maxima: maxima), midpointSum: sums, sampleCount: 3)
    let z = sums.map { Float($0 / 3) }
    let largest = z.indices.map { max(maxima[$0] - z[$0], z[$0] - minima[$0]) }
    let ours = SiteObservations(ranges: ranges)
    let theirs = SiteObservations(foreignScales: ForeignScales(midpoint: z, absoluteMaximum: largest))
    let expected = ChannelTransform(shift: z, scale: largest.map { max($0, 1e-5) / 31 })
    for (method, observed) in [
      (OutlierTune(), ours), (OutlierTune(), theirs), (OutlierTune(isSymmetrized: false), theirs),
    ] {
      let decision = try method.plan(site, in: graph, bits: 6, observed)
      #expect(decision.transform.channels == expected && decision.activation == .static(bits: 6), "seed \(seed)")
    }
    let unshifted = try OutlierTune(isSymmetrized: false).plan(site, in: graph, bits: 6, ours)
    #expect(unshifted.transform.shift == nil, "seed \(seed)")
    #expect(unshifted.transform.scale == zip(minima, maxima).map { max(-$0, $1) / 31 }, "seed \(seed)")
    let refusal = #expect(throws: Refusal.self) {
      try OutlierTune().plan(site, in: graph, bits: 6, SiteObservations())
    }
    #expect(refusal?.rule == "statistics-missing")
  }
}
