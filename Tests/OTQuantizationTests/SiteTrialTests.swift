import OTConversion
import OTFoundation
import OTGraph
import OTModel
import OTObservation
import OTQuantization
import OTRuntime
import OTTensor
import Testing
import _OTModelSupport
import _OTTestSupport

/// The error of a plan on kept rows against that of a converted file, run whole.
@Suite struct SiteTrialTests {
  private struct Setting {
    let source: SourceModel
    let graph: Graph
    let samples: [[Int]]
    let observed: ModelObservations

    init(_ fixture: Fixture) throws {
      source = try fixture.source()
      graph = try source.graph()
      samples = (0..<3).map { sample in (0..<44).map { ($0 * 37 + sample * 101) % 1900 + 4 } }
      var settings = Calibration()
      settings.threadCount = 2
      observed = try settings.run(
        on: source,
        samples: Calibration.Samples(
          tokens: samples, run: CalibrationRun(texts: [], sampleCount: 3, length: 44, seed: nil)),
        kinds: [.ranges, .rows(count: 1000), .wholeSamples(count: 10)])
    }

    func context(_ site: Site, bits: Int) -> SiteContext {
      let scheme = QuantizationScheme(bits: bits, isSymmetric: false, granularity: .perChannel)
      return SiteContext(
        site, in: graph, request: SiteRequest(activationBits: bits, weight: WeightPlan(scheme: scheme)),
        observed: observed[site], parameters: source.parameters, threadCount: 2)
    }
  }

  /// The first site reads the embeddings of both models alike: there the trial must give the error
  /// of the converted model, output by output.
  @Test(arguments: Fixture.decoders) func equalsTheConvertedModel(_ fixture: Fixture) throws {
    let setting = try Setting(fixture)
    let site = try #require(setting.graph.sites.first)
    let method = OutlierTune()
    let context = setting.context(site, bits: 6)
    let trial = try context.trial.error(of: method.plan(context))
    let file = try withTemporaryFolder { folder in
      var options = ConversionOptions()
      options.bits = 6
      options.embeddingBits = 16
      options.methods = [method]
      let plan = try Conversion(setting.source, options: options, statistics: setting.observed).plan()
      try Converter(plan).run(to: folder + "/m.otq")
      return try PackedModel(path: folder + "/m.otq")
    }
    let graph = try #require(file.graph)
    let packed = try QuantizedExecutor(graph: graph, container: file.container, threadCount: 2)
    let source = try FloatExecutor(graph: setting.graph, parameters: setting.source.parameters, threadCount: 2)
    let sequences = setting.samples.map { TokenSequence($0) }
    let actual = try packed.run(sequences, from: [:], until: site.consumers, observe: nil)
    let expected = try source.run(sequences, from: [:], until: site.consumers, observe: nil)
    var error = TrialError()
    for (actual, expected) in zip(actual, expected) {
      for name in site.consumers {
        for (y, approximation) in zip(try expected.output(name).values, try actual.output(name).values) {
          error.squaredError += Double(y - approximation) * Double(y - approximation)
          error.squares += Double(y) * Double(y)
        }
      }
    }
    // What is given at the site is rounded once more than what the norm gives there.
    #expect(abs(trial.relative / error.relative - 1) < 0.02, "trial \(trial.relative), file \(error.relative)")
    #expect(abs(trial.squares / error.squares - 1) < 1e-6)
  }

  @Test func fewerBitsAreWorseAndFloatsAreExact() throws {
    let setting = try Setting(.llama)
    for site in setting.graph.sites.prefix(4) {
      for depth in [SiteTrial.Depth.linears, .attention] {
        let errors = try [8, 6, 4].map { bits in
          let context = setting.context(site, bits: bits)
          return try context.trial.error(of: PerToken().plan(context), through: depth).relative
        }
        #expect(errors[0] > 0 && errors[0] < errors[1] && errors[1] < errors[2], "\(site.producer): \(errors)")
        let float = try setting.context(site, bits: 8).trial
          .error(of: SitePlan(activation: .float, weight: WeightPlan(scheme: nil)), through: depth)
        #expect(float.relative < 1e-10, "\(site.producer)")
      }
    }
  }

  /// q, k and v alone are not what a model makes of them.
  @Test func attentionIsLookedThrough() throws {
    let setting = try Setting(.bloom)
    let site = try #require(setting.graph.sites.first)
    let context = setting.context(site, bits: 4)
    let plan = PerToken().plan(context)
    let linears = try context.trial.error(of: plan)
    let attention = try context.trial.error(of: plan, through: .attention)
    #expect(attention.squares != linears.squares && attention.relative > 0)
  }

  @Test func withoutRowsItIsRefused() throws {
    let setting = try Setting(.opt)
    let site = try #require(setting.graph.sites.first)
    let context = SiteContext(
      site, in: setting.graph, request: SiteRequest(activationBits: 8, weight: WeightPlan(scheme: nil)),
      observed: SiteObservations(), parameters: setting.source.parameters, threadCount: 1)
    let plan = PerToken().plan(context)
    #expect(throws: Refusal.self) { try context.trial.error(of: plan) }
  }
}
