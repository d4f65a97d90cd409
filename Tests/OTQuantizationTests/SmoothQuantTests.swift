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

/// SmoothQuant against what the authors' code chose (fixtures/methods) and what it then scored.
@Suite struct SmoothQuantTests {
  /// A family's names of the linears in front of which a norm stands, and the golden perplexities
  /// with α = 0.5 and 0.8, W8A8 and W6A6, per token; 0 where there is none.
  private struct Golden {
    let fixture: Fixture
    let attention, mlp: String
    var perplexities: [String: Double] = [:]
  }

  private static let goldens = [
    Golden(
      fixture: .opt, attention: "q_proj", mlp: "fc1",
      perplexities: ["a05_w8": 32.043, "a05_w6": 32.196, "a08_w8": 32.030, "a08_w6": 32.093]),
    Golden(
      fixture: .bloom, attention: "query_key_value", mlp: "dense_h_to_4h",
      perplexities: ["a05_w8": 28.935, "a05_w6": 29.027, "a08_w8": 28.931, "a08_w6": 29.021]),
    Golden(
      fixture: .llama, attention: "q_proj", mlp: "up_proj",
      perplexities: ["a05_w8": 23.097, "a05_w6": 23.202, "a08_w8": 23.096, "a08_w6": 23.189]),
    Golden(fixture: .bert, attention: "query", mlp: "intermediate.dense"),
  ]

  private static func observed(_ fixture: Fixture) throws -> ModelObservations {
    let goldens = try fixture.goldens()
    let samples = try (0..<32).map { try goldens.integers("calibration_ids", row: $0) }
    var settings = Calibration()
    settings.threadCount = 2
    return try settings.run(
      on: fixture.source(),
      samples: Calibration.Samples(
        tokens: samples, run: CalibrationRun(texts: [], sampleCount: 32, length: 128, seed: nil)))
  }

  private static func method(_ alpha: String, normsOnly: Bool) throws -> any QuantizationMethod {
    try Methods.method("smoothquant,alpha=\(alpha == "a05" ? "0.5" : "0.8"),norms-only=\(normsOnly)")
  }

  @Test(arguments: Fixture.allCases) func scalesAreTheAuthors(_ fixture: Fixture) throws {
    let golden = try #require(Self.goldens.first { $0.fixture == fixture })
    let (source, observed) = (try fixture.source(), try Self.observed(fixture))
    let graph = try source.graph()
    let file = try Goldens(path: Fixtures.path("methods/\(fixture.family)-mini/smoothquant.safetensors"))
    for alpha in ["a05", "a08"] {
      let method = try Self.method(alpha, normsOnly: true)
      for (kind, linear) in [("attn_in", golden.attention), ("ffn_in", golden.mlp)] {
        let sites = graph.sites.filter { $0.consumers.contains { $0.hasSuffix(linear) } }
        #expect(sites.count == 4)
        for (layer, site) in sites.enumerated() {
          let plan = try method.plan(site, in: graph, bits: 8, observed[site], parameters: source.parameters)
          let expected = try file.floats("\(alpha)/layers.\(layer).\(kind)/scale")
          let scale = try #require(plan.transform.scale)
          #expect(scale.count == expected.count && plan.transform.shift == nil)
          for (a, b) in zip(scale, expected) { #expect(abs(a / b - 1) < 1e-5, "\(site.producer)") }
          #expect(plan.activation == .dynamic(bits: 8))
        }
      }
    }
  }

  @Test(arguments: Fixture.decoders) func perplexitiesAreTheAuthors(_ fixture: Fixture) throws {
    let golden = try #require(Self.goldens.first { $0.fixture == fixture })
    let (source, observed) = (try fixture.source(), try Self.observed(fixture))
    for (name, expected) in golden.perplexities {
      let bits = name.hasSuffix("8") ? 8 : 6
      let method = try Self.method(String(name.prefix(3)), normsOnly: true)
      let got = try Self.perplexity(fixture, source, observed, [method], bits: bits)
      #expect(abs(got / expected - 1) < (bits == 8 ? 0.0005 : 0.002), "\(name): \(got), golden \(expected)")
    }
  }

  /// Also where scales go through gates and values: the float function stays.
  @Test(arguments: Fixture.allCases) func floatFunctionIsPreserved(_ fixture: Fixture) throws {
    let (source, observed) = (try fixture.source(), try Self.observed(fixture))
    var options = ConversionOptions()
    options.methods = [try Self.method("a05", normsOnly: false)]
    let plan = try Conversion(source, options: options, statistics: observed).plan()
    let graph = try #require(plan.graph)
    if fixture == .llama {
      for linear in ["o_proj", "down_proj", "q_proj", "up_proj"] {
        let site = try #require(graph.sites.first { $0.consumers.contains { $0.hasSuffix(linear) } })
        #expect(graph.transform(ofValue: site.producer).scale != nil, "\(linear)")
      }
    }
    let tokens = try fixture.goldenSequences()[0]
    let name = fixture == .bert ? "hidden" : "logits"
    let expected = try FloatExecutor(graph: source.graph(), parameters: source.parameters, threadCount: 2)
      .run(tokenIDs: tokens).output(name)
    let got = try FloatExecutor(graph: graph, parameters: source.parameters, threadCount: 2)
      .run(tokenIDs: tokens).output(name)
    #expect(relativeError(got.values, expected.values) < 5e-6)
  }

  /// OutlierTune after it sees what it left: static scales of the smoothed value.
  @Test func anotherMethodCanFollow() throws {
    let (source, observed) = (try Fixture.opt.source(), try Self.observed(.opt))
    var options = ConversionOptions()
    options.methods = [try Self.method("a05", normsOnly: true), OutlierTune()]
    let conversion = try Conversion(source, options: options, statistics: observed)
    let plan = try conversion.plan()
    #expect(plan.methodName == "smoothquant+outliertune")
    let graph = try #require(plan.graph)
    options.methods = [OutlierTune()]
    let alone = try #require(try conversion.plan(options: options).graph)
    for site in graph.sites where site.isNormFed {
      #expect(graph.activations[site.producer] == .static(bits: 8))
      // Both ways the site's integers are the same but for rounding: σ of x/s is σ of x, divided by s.
      let (a, b) = (graph.transform(ofValue: site.producer), alone.transform(ofValue: site.producer))
      for (x, y) in zip(try #require(a.scale), try #require(b.scale)) where y > 1e-4 { #expect(abs(x / y - 1) < 1e-4) }
    }
  }

  /// Scales of another tool's file serve it as well, and the file says both.
  @Test func recordNamesOptionsAndScales() throws {
    var options = ConversionOptions()
    options.methods = [try Self.method("a08", normsOnly: true)]
    let plan = try Conversion(
      Fixture.opt.source(), options: options, foreign: Fixture.opt.statistics(.outlierTuneWithoutSymmetrization)
    ).plan()
    let record = plan.methodRecord
    #expect(record["name"]?.string == "smoothquant" && record["scales"]?.string == "act_scales.pt")
    #expect(record["alpha"]?.double == 0.8 && record["normsOnly"]?.bool == true)
  }

  private static func perplexity(
    _ fixture: Fixture, _ source: SourceModel, _ observed: ModelObservations, _ methods: [any QuantizationMethod],
    bits: Int
  ) throws -> Double {
    var options = ConversionOptions()
    options.bits = bits
    options.isSymmetric = true
    options.embeddingBits = 16
    options.methods = methods
    options.threadCount = 2
    let file = try withTemporaryFolder { folder in
      try Converter(Conversion(source, options: options, statistics: observed).plan()).run(to: folder + "/m.otq")
      return try PackedModel(path: folder + "/m.otq")
    }
    let executor = try QuantizedExecutor(
      graph: #require(file.graph), container: file.container, threadCount: 2)
    let ids = try fixture.goldens().integers("test_ids")
    var likelihood = TokenLikelihood()
    for window in 0..<40 {
      let tokens = Array(ids[128 * window..<128 * (window + 1)])
      try likelihood.add(
        logits: executor.run(tokenIDs: tokens).output("logits"), tokenIDs: tokens, threadCount: 2)
    }
    return try #require(likelihood.perplexity)
  }
}
