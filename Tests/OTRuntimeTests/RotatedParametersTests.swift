import OTGraph
import OTModel
import OTRuntime
import Testing
import _OTTestSupport

/// Weights behind a rotated site, forward and backward.
@Suite struct RotatedParametersTests {
  @Test func rowsAreRotatedAndBack() throws {
    var generator = SeededGenerator()
    let plain = try FloatExecutorTests.graph(heads: 2, groups: 2, headSize: 16, isCausal: true, positions: .none)
    let parameters = try FloatExecutorTests.parameters(plain, seed: generator.seed)
    let site = try #require(plain.sites.first)
    let scale = (0..<site.size).map { _ in Float.random(in: 0.5...2, using: &generator) }
    let graph = try plain.migrating(site, by: SiteTransform(scale: scale, rotation: Rotation(blockSize: 16)))
    let use = try #require(graph.parameterUses(of: "q").first { $0.role == .weight })
    #expect(!use.isUnchanged)
    let source = try #require(plain.parameterUses(of: "q").first { $0.role == .weight })
    let original = try parameters.values(of: source)
    var rotated = try parameters.values(of: use)
    for index in rotated.indices {
      let (row, column) = (index / site.size, index % site.size)
      let block = column / 16 * 16
      let sum = (0..<16).reduce(0.0) { sum, other in
        let sign: Double = (other & (column - block)).nonzeroBitCount % 2 == 0 ? 1 : -1
        return sum + Double(original[row * site.size + block + other]) * Double(scale[block + other]) * sign
      }
      #expect(abs(Double(rotated[index]) - sum / 4) < 1e-5, "seed \(generator.seed)")
    }
    ParameterReader.restore(use, firstRow: 0, &rotated)
    for (restored, value) in zip(rotated, original) { #expect(abs(restored - value) < 1e-5, "seed \(generator.seed)") }
  }
}
