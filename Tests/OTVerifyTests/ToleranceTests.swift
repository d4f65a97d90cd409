import OTFoundation
import OTJSON
import OTVerify
import Testing

@Suite struct ToleranceTests {
  private func tolerance(_ text: String) throws -> Tolerance {
    try Tolerance(json: try JSONValue.parse(text), file: "t.json")
  }

  private let w6a6 = ModelScheme(weightBits: 6, activationBits: 6, isStatic: true)
  private let w8a16 = ModelScheme(weightBits: 8, activationBits: 16, isStatic: false)

  @Test func everyMember() throws {
    let tolerance = try tolerance(
      """
      {"maximumErrorInSteps": 0.75, "minimumSqnrDecibels": {"6": 25}, "maximumRelativeError": 1e-4,
       "maximumOutputErrorRatio": 0.9375,
       "layers": {"maximumRelativeError": {"w6a6-static": 0.25, "w8a16": 0.125}, "minimumCosine": 0.5},
       "model": {"maximumPerplexityRatio": 1.5, "maximumMeanDivergence": {"w8a16": 0.75}, "minimumTop1Agreement": 0.875,
                 "minimumCosine": 0.625}}
      """)
    #expect(tolerance.maximumOutputErrorRatio == 0.9375 && Tolerance().maximumOutputErrorRatio == 1)
    #expect(tolerance.maximumErrorInSteps == 0.75 && tolerance.maximumRelativeError == 1e-4)
    #expect(tolerance.minimumSQNRDecibels[6] == 25 && tolerance.minimumSQNRDecibels[8] == 30)
    #expect(tolerance.maximumLayerError.value(for: w6a6) == 0.25)
    #expect(tolerance.maximumLayerError.value(for: w8a16) == 0.125)
    #expect(tolerance.minimumLayerCosine.value(for: w8a16) == 0.5)
    #expect(tolerance.maximumPerplexityRatio.value(for: w6a6) == 1.5)
    #expect(tolerance.maximumMeanDivergence.value(for: w8a16) == 0.75)
    #expect(tolerance.maximumMeanDivergence.value(for: w6a6) == Tolerance().maximumMeanDivergence.value(for: w6a6))
    #expect(tolerance.minimumTop1Agreement.value(for: w6a6) == 0.875)
    #expect(tolerance.minimumOutputCosine.value(for: w8a16) == 0.625)
  }

  @Test(arguments: [
    ("{\"layer\": {}}", "tolerance-unknown"), ("{\"layers\": {\"maximumError\": 1}}", "tolerance-unknown"),
    ("{\"model\": {\"maximumRelativeError\": 1}}", "tolerance-unknown"), ("{\"layers\": 0.5}", "tolerance-value"),
    ("{\"model\": {\"minimumCosine\": \"1\"}}", "tolerance-value"),
    ("{\"model\": {\"minimumCosine\": 1.5}}", "tolerance-value"),
    ("{\"model\": {\"minimumTop1Agreement\": -1}}", "tolerance-value"),
    ("{\"layers\": {\"maximumRelativeError\": {\"w6a6\": 1}}}", "tolerance-value"),
    ("{\"layers\": {\"maximumRelativeError\": {\"w9a8-static\": 1}}}", "tolerance-value"),
    ("{\"layers\": {\"maximumRelativeError\": {\"w8a16-static\": 1}}}", "tolerance-value"),
    ("{\"layers\": {\"maximumRelativeError\": {\"w08a16\": 1}}}", "tolerance-value"),
    ("{\"maximumErrorInSteps\": -1}", "tolerance-value"), ("{\"minimumSqnrDecibels\": {\"9\": 1}}", "tolerance-value"),
  ])
  func refusals(text: String, rule: String) throws {
    let refusal = try #require(throws: Refusal.self) { try tolerance(text) }
    #expect(refusal.rule == rule && refusal.file == "t.json")
  }

  @Test func namesAndTheirLimits() throws {
    let limits = try Tolerance.names.map { name in
      let tolerance = try #require(Tolerance(named: name))
      return [tolerance.maximumPerplexityRatio.value(for: w6a6), tolerance.maximumMeanDivergence.value(for: w6a6)]
    }
    #expect(limits[0] == [1.01, 0.01] && limits[1] == [1.03, 0.05])
    // 1.03 + 250/4096 + 1500/4096, 0.01 + 450/4096 + 1500/4096.
    #expect(abs(limits[2][0] - 1.457246) < 1e-6 && abs(limits[2][1] - 0.486074) < 1e-6)
    #expect(Tolerance(named: "loose") == nil && Tolerance(named: "default") == Tolerance())
  }

  /// A ratio fails when its lower bound does: chance is not a fault.
  @Test func perplexityIsJudgedWithItsError() {
    func faults(_ ratio: Double, _ error: Double) -> [String] {
      Tolerance().faults(
        perplexity: .init(packed: 10 * ratio, source: 10, ratio: ratio, standardError: error, tokenCount: 100),
        divergence: .init(mean: 0.049, percentile99: 1, maximum: 1, top1Agreement: 0.99), similarities: [],
        scheme: w8a16
      ).map(\.figure)
    }
    #expect(faults(1.029, 0.001).isEmpty && faults(1.04, 0.007).isEmpty)
    #expect(faults(1.04, 0.005) == ["perplexity ratio"] && faults(.nan, 0.001) == ["perplexity ratio"])
  }

  /// Fewer bits are never held to more.
  @Test func defaultsFollowTheBits() {
    let tolerance = Tolerance()
    for isStatic in [false, true] {
      for bits in 3...8 {
        func scheme(_ weights: Int, _ activations: Int) -> ModelScheme {
          ModelScheme(weightBits: weights, activationBits: activations, isStatic: isStatic)
        }
        for other in [scheme(bits - 1, bits), scheme(bits, bits - 1)] {
          let own = scheme(bits, bits)
          #expect(tolerance.maximumLayerError.value(for: own) <= tolerance.maximumLayerError.value(for: other))
          #expect(
            tolerance.maximumPerplexityRatio.value(for: own) <= tolerance.maximumPerplexityRatio.value(for: other))
          #expect(tolerance.maximumMeanDivergence.value(for: own) <= tolerance.maximumMeanDivergence.value(for: other))
          #expect(tolerance.minimumTop1Agreement.value(for: own) >= tolerance.minimumTop1Agreement.value(for: other))
          #expect(tolerance.minimumOutputCosine.value(for: own) >= tolerance.minimumOutputCosine.value(for: other))
        }
      }
    }
  }
}
