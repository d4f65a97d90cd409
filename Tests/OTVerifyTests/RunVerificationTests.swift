import OTCheckpoint
import OTConversion
import OTFoundation
import OTGraph
import OTModel
import OTObservation
import OTRuntime
import OTVerify
import Testing
import _OTModelSupport
import _OTTestSupport

/// Models that run beside their sources.
@Suite struct RunVerificationTests {
  /// A fixture, converted.
  private struct Model {
    let fixture: Fixture
    let graph: Graph
    let source: FloatExecutor
    let file: PackedModel
    let packedGraph: Graph
    let weights: StoredWeights

    init(_ fixture: Fixture, bits: Int, hasStatistics: Bool) throws {
      self.fixture = fixture
      graph = try fixture.graph()
      source = try fixture.floatExecutor()
      file = try fixture.packed(hasStatistics ? .outlierTune : .perToken) { $0.bits = bits }
      packedGraph = try #require(file.graph)
      weights = StoredWeights(graph: packedGraph, container: file.container)
    }

    func verified(
      by executor: (any Executor)? = nil, source other: (any Executor)? = nil, on lengths: [Int] = [40, 17, 64],
      byteCount: Int = 1 << 28, threadCount: Int = 2
    ) throws -> RunVerification {
      try RunVerification(
        packed: try executor ?? packed(), source: other ?? source, weights: weights,
        sequences: sequences(lengths).map { TokenSequence($0) },
        file: file.path, comparesOutputs: true, byteCount: byteCount, threadCount: threadCount)
    }

    func packed() throws -> QuantizedExecutor {
      try QuantizedExecutor(graph: packedGraph, container: file.container, threadCount: 2)
    }

    /// Tokens of the fixture's text, in sequences of these lengths.
    func sequences(_ lengths: [Int] = [40, 17, 64]) throws -> [[Int]] {
      var tokens = try fixture.goldens().integers(fixture == .bert ? "input_ids" : "test_ids")[...]
      return lengths.map { length in
        defer { tokens = tokens.dropFirst(length) }
        return Array(tokens.prefix(length))
      }
    }
  }

  /// A migrated model in float is the source but for rounding: what is
  /// compared has to be brought back to the source's units.
  @Test(arguments: Fixture.decoders) func migrationAloneIsNoError(fixture: Fixture) throws {
    let model = try Model(fixture, bits: 8, hasStatistics: true)
    #expect(!model.packedGraph.transforms.isEmpty)
    let migrated = try FloatExecutor(
      graph: model.packedGraph, parameters: model.fixture.parameters(), threadCount: 2)
    let result = try model.verified(by: migrated)
    for layer in result.layers { #expect(layer.error.relativeError < 1e-3, "\(layer.name)") }
    #expect(abs(try #require(result.model?.perplexity).ratio - 1) < 1e-3)
    #expect(try #require(result.model?.divergence).maximum < 1e-3)
  }

  @Test(arguments: Fixture.decoders, [8, 6])
  func goodConversionsPass(fixture: Fixture, bits: Int) throws {
    let model = try Model(fixture, bits: bits, hasStatistics: true)
    let result = try model.verified()
    #expect(result.hasPassed, "\(result.offenders.map(\.name)) \(result.model?.faults.map(\.figure) ?? [])")
    #expect(result.scheme.name == "w\(bits)a\(bits)-static")
    #expect(result.tokenCount == 121 && result.sequenceCount == 3)
    let linears = model.graph.nodes.count { if case .linear = $0.operation { true } else { false } }
    #expect(result.layers.count { $0.kind == .linear } == linears)
    #expect(result.layers.allSatisfy { $0.error.rowCount == 121 || $0.error.rowCount == 3 })
    #expect(Set(result.sites.map(\.site)) == Set(model.packedGraph.sites))
    for site in result.sites where site.site.isNormFed {
      #expect(site.quantization == .static(bits: bits))
      // Centred channels of equal steps: outliers are gone.
      #expect(site.packedRanges.outlierRatio < 3 && site.sourceRanges.outlierRatio > 5, "\(site.site.producer)")
      #expect(Double(site.clippedCount) < 0.01 * Double(site.valueCount))
    }
  }

  /// One node's figures against those of a single run, value by value.
  @Test func figuresAreThoseOfOneRun() throws {
    let model = try Model(.opt, bits: 6, hasStatistics: true)
    let node = "model.decoder.layers.1.fc1"
    func values(_ executor: any Executor) throws -> [Float] {
      var values: [Float] = []
      for sequence in try model.sequences() {
        _ = try executor.run(tokenIDs: sequence) { if $0.name == node { values += Array($0.values) } }
      }
      return values
    }
    let expected = try values(model.source)
    let actual = try values(try model.packed())
    let difference = zip(expected, actual).reduce(0.0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
    let square = expected.reduce(0.0) { $0 + Double($1) * Double($1) }
    let layer = try #require(try model.verified().layers.first { $0.name == node })
    #expect(abs(layer.error.relativeError - (difference / square).squareRoot()) < 1e-4)
    #expect(layer.place == LayerPlace(name: node))
    #expect(layer.place.block == 1 && layer.place.label == "fc1")
  }

  /// A little memory costs runs, not figures.
  @Test func groupsChangeNothing() throws {
    let model = try Model(.llama, bits: 6, hasStatistics: true)
    let whole = try model.verified(on: [64])
    let pieces = try model.verified(on: [64], byteCount: 300_000, threadCount: 1)
    #expect(whole.layers.map(\.name) == pieces.layers.map(\.name))
    for (a, b) in zip(whole.layers, pieces.layers) {
      #expect(abs(a.error.relativeError - b.error.relativeError) < 1e-9, "\(a.name)")
    }
    #expect(whole.sites.map(\.sourceRanges) == pieces.sites.map(\.sourceRanges))
    #expect(whole.sites.map(\.packedHistogram) == pieces.sites.map(\.packedHistogram))
    #expect(whole.model?.perplexity == pieces.model?.perplexity)
  }

  /// A source one of whose linears is another than the one that was converted.
  private struct Corrupted: ParameterSource {
    let parameters: ParameterReader
    let node: String

    func read(
      _ use: ParameterUse, rows: Range<Int>, into target: UnsafeMutableBufferPointer<Float>
    ) throws {
      try parameters.read(use, rows: rows, into: target)
      guard use.node == node, use.role == .weight else { return }
      for index in target.indices { target[index] *= -1 }
    }
  }

  @Test(arguments: ["model.decoder.layers.1.fc2", "model.decoder.layers.2.self_attn.v_proj"])
  func aBrokenLayerIsTheFirstNamed(node: String) throws {
    let model = try Model(.opt, bits: 6, hasStatistics: true)
    let broken = try FloatExecutor(
      graph: model.graph,
      parameters: Corrupted(parameters: model.fixture.parameters(), node: node), threadCount: 2)
    let result = try model.verified(source: broken)
    #expect(!result.hasPassed)
    #expect(result.offenders.first?.name == node)
    #expect(result.offenders.first?.faults.first?.contains("relative error") == true)
  }

  @Test func vectorsOfBERTAreCompared() throws {
    let model = try Model(.bert, bits: 8, hasStatistics: false)
    let result = try model.verified()
    #expect(result.hasPassed && result.model?.perplexity == nil)
    let similarity = try #require(result.model?.similarities.first { $0.output == "hidden" })
    #expect(similarity.mean > 0.999 && similarity.minimum <= similarity.mean)
  }

  @Test func anotherModelIsRefused() throws {
    let model = try Model(.opt, bits: 8, hasStatistics: false)
    let other = try Model(.llama, bits: 8, hasStatistics: false)
    let refusal = try #require(throws: Refusal.self) { try model.verified(source: other.source) }
    #expect(refusal.rule == "verify-graph")
  }

  @Test(arguments: [
    ("model.layers.12.mlp.up_proj", 12, "mlp.up_proj"), ("lm_head", nil, "lm_head"), ("h.0", nil, "h.0"),
    ("a.b.7x.c", nil, "a.b.7x.c"), ("x.007.y", 7, "y"), ("x.99999999999999999999.y", nil, "x.99999999999999999999.y"),
    ("", nil, ""), ("a.٣.b", nil, "a.٣.b"),
  ])
  func places(name: String, block: Int?, label: String) {
    let place = LayerPlace(name: name)
    #expect(place.block == block && place.label == label)
  }
}
