import Foundation
import OTGraph
import OTModel
import OTObservation
import OTQuantization
import Testing
import _OTModelSupport
import _OTTestSupport

/// The choices of the package's own recipe, computed by hand.
@Suite struct BestTests {
  /// Moments of two rows, x and −x/2 around a mean.
  private static func observed(_ site: Site) -> SiteObservations {
    let rows = [1.0, -0.5].map { (sign: Double) -> [Double] in
      (0..<site.size).map { (channel: Int) -> Double in
        let size = channel % 3 == 2 ? 4 * channel + 1 : channel + 1
        return 0.1 * Double(channel) + sign * Double(size)
      }
    }
    var observed = SiteObservations()
    observed.channelMoments = ChannelMoments(
      rowCount: 2, sums: zip(rows[0], rows[1]).map { $0 + $1 }, squares: zip(rows[0], rows[1]).map { $0 * $0 + $1 * $1 }
    )
    return observed
  }

  @Test(arguments: Fixture.allCases) func shiftsScalesAndRotations(_ fixture: Fixture) throws {
    let source = try fixture.source()
    let graph = try source.graph()
    for site in graph.sites {
      let observed = Self.observed(site)
      let plan = try Best().plan(site, in: graph, bits: 6, observed, parameters: source.parameters)
      #expect(plan.activation == .dynamic(bits: 6))
      // 128 = 2⁷, 384 = 3 · 2⁷, 512 = 2⁹.
      #expect(plan.transform.rotation?.blockSize == (site.size == 512 ? 512 : 128))
      let moments = try #require(observed.channelMoments)
      let isShifted = plan.transform.shift != nil
      #expect(isShifted == (site.isNormFed && fixture != .llama && graph.pushability(of: site).shift))
      if let shift = plan.transform.shift {
        for (a, b) in zip(shift, moments.mean) { #expect(abs(Double(a) - b) < 1e-5 * max(1, abs(b))) }
      }
      guard graph.pushability(of: site).scale else {
        #expect(plan.transform.scale == nil)
        continue
      }
      // C^¼ / ‖W_:,j‖^½ over its geometric mean, shared channels over theirs.
      var squares = [Double](repeating: 0, count: site.size)
      for use in site.consumers.flatMap(graph.parameterUses(of:)) where use.role == .weight {
        let values = try source.parameters.rows(of: use).values(rows: 0..<use.shape.rowCount)
        for (index, value) in values.enumerated() { squares[index % site.size] += Double(value) * Double(value) }
      }
      let power = (0..<site.size).map { channel in
        let mean = moments.sums[channel] / 2
        return isShifted ? moments.squares[channel] / 2 - mean * mean : moments.squares[channel] / 2
      }
      var expected = (0..<site.size).map { pow(power[$0], 0.25) / pow(squares[$0], 0.25) }
      if let shared = graph.sharedChannels(of: site) {
        expected = shared.map { first in
          let group = shared.indices.filter { shared[$0] == first }
          return pow(group.reduce(1.0) { $0 * expected[$1] }, 1 / Double(group.count))
        }
      }
      let middle = exp(expected.reduce(0.0) { $0 + log($1) } / Double(site.size))
      let scale = try #require(plan.transform.scale)
      for (a, b) in zip(scale, expected) { #expect(abs(Double(a) / (b / middle) - 1) < 1e-4, "\(site.producer)") }
    }
  }

  @Test func deadChannelsKeepTheirScale() throws {
    let source = try Fixture.opt.source()
    let graph = try source.graph()
    let site = try #require(graph.sites.first)
    var observed = Self.observed(site)
    let moments = try #require(observed.channelMoments)
    var (sums, squares) = (moments.sums, moments.squares)
    (sums[5], squares[5]) = (0, 0)
    observed.channelMoments = ChannelMoments(rowCount: 2, sums: sums, squares: squares)
    let plan = try Best().plan(site, in: graph, bits: 8, observed, parameters: source.parameters)
    let scale = try #require(plan.transform.scale)
    #expect(scale[5] == 1 && scale.allSatisfy { $0.isFinite && $0 > 0 })
  }
}
