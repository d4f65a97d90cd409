import Foundation
import OTConversion
import OTFoundation
import OTGraph
import OTJSON
import OTModel
import OTObservation
import OTProof
import OTQ
import OTQuantization
import OTRuntime
import Testing
import _OTModelSupport
import _OTTestSupport

/// What sites lose alone, against an independent program in PyTorch (`fixtures/methods/opt-mini/sites.json`).
@Suite struct SiteAnalysisTests {
  private static let fixture = Fixture.opt

  private static func sequences() throws -> [[Int]] {
    let goldens = try fixture.goldens()
    return try (0..<32).map { try goldens.integers("calibration_ids", row: $0) }
  }

  /// The sites of a file that a method made on the calibration tokens, looked at on all of them.
  private static func sites(_ method: String, in folder: String) throws -> [SiteFigures] {
    let source = try fixture.source()
    var options = ConversionOptions()
    options.isSymmetric = true
    options.methods = [try Methods.method(method)]
    options.threadCount = 2
    var calibration = Calibration()
    calibration.threadCount = 2
    let samples = Calibration.Samples(
      tokens: try sequences(), run: CalibrationRun(texts: [], sampleCount: 32, length: 128, seed: nil))
    let conversion = try Conversion(source, options: options)
    let observed = try calibration.run(on: source, samples: samples, kinds: conversion.needs)
    let path = folder + "/model.otq"
    try Converter(conversion.plan(observed)).run(to: path, force: true)
    let file = try PackedModel(path: path)
    return try SiteAnalysis(of: file, source: source, threadCount: 2).run(
      packed: LanguageModel(ModelFile(.packed(file)), threadCount: 2).executor, float: fixture.floatExecutor(),
      sequences: sequences().map { TokenSequence($0) }, comparesUntransformed: false)
  }

  /// Names as the reference has them: `layers.0.attn_in`.
  private static func name(_ site: SiteFigures) -> String? {
    let consumer = site.consumers.first ?? ""
    let block = consumer.split(separator: ".").first { Int($0) != nil } ?? ""
    if consumer.hasSuffix("q_proj") { return "layers.\(block).attn_in" }
    return consumer.hasSuffix("fc1") ? "layers.\(block).ffn_in" : nil
  }

  @Test(arguments: [
    ("minmax,symmetric=true", "original"), ("osplus,activations=symmetric,scale=false", "osplus_shift_only"),
    ("osplus,activations=symmetric,samples=32", "osplus"),
  ]) func sitesLoseWhatTheReferenceSays(_ method: String, _ key: String) throws {
    try withTemporaryFolder { folder in
      let golden = try JSONValue.parse(
        contentsOf: MappedFile(path: Fixtures.path("methods/\(Self.fixture.name)/sites.json")))
      let sites = try Self.sites(method, in: folder)
      var comparedCount = 0
      for site in sites {
        guard let name = Self.name(site), let expected = golden["w8a8"]?[name]?[key] else { continue }
        comparedCount += 1
        func number(_ key: String) throws -> Double { try #require(expected[key]?.double) }
        func isNear(_ value: Double, _ other: Double, _ tolerance: Double) -> Bool {
          abs(value / other - 1) < tolerance
        }
        // The threshold of osplus is searched on other samples there.
        let tolerance = key == "osplus" ? 0.5 : 0.03
        let output = try number("output_mse")
        #expect(isNear(site.output.meanSquare, output, tolerance), "\(name): \(site.output.meanSquare), \(output)")
        // Activations are in steps here, weights have the step in them: the product does not change.
        let product = try number("act_mse") * number("weight_mse")
        let own = site.activation.meanSquare * site.weight.meanSquare
        #expect(isNear(own, product, tolerance), "\(name): \(own), \(product)")
        guard key != "osplus" else { continue }
        let numbers = try #require(expected["act_range"]?.array)
        let range = numbers.compactMap { $0.double }
        let reach = SiteFigures.reach(key == "original" ? site.ranges : site.shiftedRanges)
        #expect(
          isNear(reach.lowerBound, range[0], 1e-4) && isNear(reach.upperBound, range[1], 1e-4), "\(name): \(reach)")
        #expect(site.isShifted == (key != "original"))
      }
      #expect(comparedCount == 8)
      #expect(sites.count == 16)
    }
  }

  /// A file of 8 bits loses less than one of 4, a site as it is more than a transformed one.
  @Test func errorsAreThoseOfTheFile() throws {
    let source = try Self.fixture.source()
    let sequences = try Self.fixture.goldenSequences().map { TokenSequence($0) }
    func sites(_ bits: Int) throws -> [SiteFigures] {
      let file = try Self.fixture.packed(.outlierTune) {
        $0.bits = bits
        $0.activationBits = bits
      }
      return try SiteAnalysis(of: file, source: source, threadCount: 2).run(
        packed: LanguageModel(ModelFile(.packed(file)), threadCount: 2).executor, float: Self.fixture.floatExecutor(),
        sequences: SiteAnalysis.sample(of: sequences))
    }
    let (fine, coarse) = (try sites(8), try sites(4))
    #expect(fine.count == 16 && coarse.count == 16)
    for (fine, coarse) in zip(fine, coarse) {
      #expect(fine.activation.relative < coarse.activation.relative, "\(fine.producer)")
      #expect(fine.weight.relative < coarse.weight.relative && fine.weight.relative > 0)
      #expect(fine.output.relative < coarse.output.relative && fine.output.count == coarse.output.count)
      let untransformed = try #require(fine.untransformed)
      #expect(untransformed.count == fine.output.count)
      // Sites without a transform lose the same, but for the order of sums.
      if fine.isScaled {
        #expect(fine.output.relative < untransformed.relative, "\(fine.producer)")
      } else {
        #expect(abs(fine.output.relative / untransformed.relative - 1) < 1e-3, "\(fine.producer)")
      }
    }
  }

  @Test func aSampleEndsInASequence() {
    let sequences = [
      TokenSequence([Int](repeating: 1, count: 200)), TokenSequence([Int](repeating: 2, count: 200)), [3],
    ]
    #expect(SiteAnalysis.sample(of: sequences).map(\.tokenIDs.count) == [200, 56])
  }
}
