import OTConversion
import OTFoundation
import OTGraph
import OTJSON
import OTModel
import OTObservation
import OTQuantization
import OTRuntime
import OTTensor
import Testing
import _OTModelSupport
import _OTTestSupport

/// A fixture, observed once on its calibration tokens, beside what other programs chose and scored there
/// (fixtures/methods).
struct MethodSetting: Sendable {
  let fixture: Fixture
  let source: SourceModel
  let graph: Graph
  let observed: ModelObservations
  /// The calibration tokens.
  let samples: Calibration.Samples
  /// The same, with one sample to try plans on.
  let observedBriefly: ModelObservations
  /// What methods chose, as `METHOD/KEY`.
  let goldens: Goldens
  /// Scores and other facts.
  let facts: JSONValue

  private static let made = Dictionary(
    uniqueKeysWithValues: Fixture.allCases.map { fixture in (fixture, OnDemand { try MethodSetting(fixture) }) })

  static func of(_ fixture: Fixture) throws -> MethodSetting { try #require(made[fixture]).get() }

  private init(_ fixture: Fixture) throws {
    self.fixture = fixture
    source = try fixture.source()
    graph = try source.graph()
    goldens = try Goldens(path: Fixtures.path("methods/\(fixture.name)/goldens.safetensors"))
    facts = try JSONValue.parse(
      contentsOf: MappedFile(path: Fixtures.path("methods/\(fixture.name)/scores.json")))
    let file = try fixture.goldens()
    let samples = try (0..<32).map { try file.integers("calibration_ids", row: $0) }
    self.samples = Calibration.Samples(
      tokens: samples, run: CalibrationRun(texts: [], sampleCount: 32, length: 128, seed: nil))
    let all = try Self.run(source, samples, [.ranges, .sampleRanges, .rows(count: 4096)])
    // The searches of other programs see the first samples.
    let first = try Self.run(source, Array(samples[..<8]), [.wholeSamples(count: 8)])
    let one = try Self.run(source, Array(samples[..<1]), [.wholeSamples(count: 1)])
    func observations(_ trials: ModelObservations) -> ModelObservations {
      var sites = all.sites
      for (name, site) in trials.sites { sites[name]?.wholeSamples = site.wholeSamples }
      return ModelObservations(family: all.family, sources: [], runs: all.runs, sites: sites)
    }
    (observed, observedBriefly) = (observations(first), observations(one))
  }

  private static var settings: Calibration {
    var settings = Calibration()
    settings.threadCount = 2
    return settings
  }

  private static func run(
    _ source: SourceModel, _ samples: [[Int]], _ kinds: Set<ObservationKind>
  ) throws -> ModelObservations {
    let run = CalibrationRun(texts: [], sampleCount: samples.count, length: 128, seed: nil)
    return try settings.run(on: source, samples: Calibration.Samples(tokens: samples, run: run), kinds: kinds)
  }

  // MARK: Sites

  /// The kinds of sites, in the order of a block.
  static let kinds = ["attn_in", "attn_out", "ffn_in", "ffn_out"]

  /// Every site by its name in the goldens: `layers.2.ffn_in`.
  var sites: [(name: String, site: Site)] {
    graph.sites.enumerated().map { ("layers.\($0 / 4).\(Self.kinds[$0 % 4])", $1) }
  }

  /// - Parameters:
  ///   - hasRows: false where trials are to run on whole samples.
  ///   - hasAllSamples: true where trials are to run on all of them.
  func context(
    _ site: Site, bits: Int, isSymmetric: Bool, hasRows: Bool = true, hasAllSamples: Bool = false
  ) -> SiteContext {
    let scheme = QuantizationScheme(bits: bits, isSymmetric: isSymmetric, granularity: .perChannel)
    var observed = observed[site]
    if hasAllSamples { observed.wholeSamples = observed.rows }
    if !hasRows { observed.rows = nil }
    return SiteContext(
      site, in: graph, request: SiteRequest(activationBits: bits, weight: WeightPlan(scheme: scheme)),
      observed: observed, parameters: source.parameters, threadCount: 2)
  }

  // MARK: Scores

  /// The golden score of a setting: a perplexity, for BERT the error of the second layer's output
  /// divided by its variance.
  func golden(_ method: String, _ setting: String) throws -> Double {
    try #require(facts["scores"]?[method]?[setting]?.double, "\(fixture) \(method) \(setting)")
  }

  /// What a model scores that is converted by methods as the command line names them.
  func score(
    _ methods: [String], bits: Int, activationBits: Int? = nil, symmetricWeights: Bool = true,
    granularity: QuantizationScheme.Granularity = .perChannel, rounding: (any RoundingRule)? = nil
  ) throws -> Double {
    var options = ConversionOptions()
    options.bits = bits
    options.activationBits = activationBits
    options.isSymmetric = symmetricWeights
    options.granularity = granularity
    options.rounding = rounding
    options.embeddingBits = 16
    options.methods = try methods.map(Methods.method)
    options.threadCount = 2
    let file = try withTemporaryFolder { folder in
      let plan = try Conversion(source, options: options, statistics: observed).plan()
      try Converter(Self.settings.rounding(plan, samples: samples, in: folder)).run(to: folder + "/m.otq")
      return try PackedModel(path: folder + "/m.otq")
    }
    let executor = try QuantizedExecutor(graph: #require(file.graph), container: file.container, threadCount: 2)
    return try fixture == .bert ? error(executor) : perplexity(executor)
  }

  private func windows() throws -> [[Int]] {
    let ids = try (fixture == .bert ? Fixture.opt : fixture).goldens().integers("test_ids")
    return (0..<40).map { Array(ids[128 * $0..<128 * ($0 + 1)]) }
  }

  /// The perplexity of a file of this model.
  func perplexity(of file: PackedModel) throws -> Double {
    try perplexity(QuantizedExecutor(graph: #require(file.graph), container: file.container, threadCount: 2))
  }

  private func perplexity(_ executor: QuantizedExecutor) throws -> Double {
    var likelihood = TokenLikelihood()
    for window in try windows() {
      try likelihood.add(
        logits: executor.run(tokenIDs: window).output("logits"), tokenIDs: window, threadCount: 2)
    }
    return try #require(likelihood.perplexity)
  }

  private func error(_ executor: QuantizedExecutor) throws -> Double {
    let layer = "encoder.layer.1.output.LayerNorm"
    let node = try #require(graph.nodes.first { $0.name.hasSuffix(layer) }).name
    let float = try FloatExecutor(
      graph: graph, parameters: source.parameters, threadCount: 2, cachesParameters: true)
    let sequences = try windows().map { TokenSequence($0) }
    let expected = try float.run(sequences, from: [:], until: [node], observe: nil)
    let actual = try executor.run(sequences, from: [:], until: [node], observe: nil)
    var (sum, count) = (0.0, 0)
    for (expected, actual) in zip(expected, actual) {
      for (y, approximation) in zip(try expected.output(node).values, try actual.output(node).values) {
        let difference = Double(y) - Double(approximation)
        sum += difference * difference
        count += 1
      }
    }
    return try sum / Double(count) / #require(facts["layer1Variance"]?.double)
  }

  /// Expects a score to be that of the goldens, give or take a twentieth of what quantization costs: the more
  /// coarse the integers, the more depends on values in the middle between two.
  func expect(
    _ got: Double, _ method: String, _ setting: String, within tolerance: Double
  ) throws {
    let golden = try golden(method, setting)
    let cost = golden - (facts["float"]?.double ?? 0)
    let isClose = abs(got - golden) < (fixture == .bert ? 0 : tolerance * golden) + 0.05 * abs(cost)
    #expect(isClose, "\(fixture) \(method) \(setting): \(got), golden \(golden)")
  }
}

/// The largest |a / b − 1|; equal zeros have none.
func largestRatio(_ a: some Collection<Float>, _ b: some Collection<Float>) -> Double {
  guard a.count == b.count else { return .infinity }
  return zip(a, b).reduce(0) { $1.0 == $1.1 ? $0 : max($0, abs(Double($1.0) / Double($1.1) - 1)) }
}
