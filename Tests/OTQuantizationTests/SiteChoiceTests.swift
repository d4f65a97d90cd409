import OTConversion
import OTFoundation
import OTGraph
import OTModel
import OTObservation
import OTQuantization
import Testing
import _OTModelSupport
import _OTTestSupport

/// A choice for each site among the plans of other methods.
@Suite struct SiteChoiceTests {
  private static let samples = Calibration.Samples(
    tokens: (0..<6).map { sample in (0..<48).map { ($0 * 37 + sample * 101) % 1900 + 4 } },
    run: CalibrationRun(texts: [], sampleCount: 6, length: 48, seed: nil))

  private func choice(_ text: String) throws -> SiteChoice {
    try #require(try Methods.method(text) as? SiteChoice)
  }

  @Test func optionsNameTheMethods() throws {
    let choice = try choice("choice,of=per-token+hadamard,rows=64")
    #expect(choice.candidates.map(\.text) == ["per-token", "hadamard"] && choice.rowCount == 64)
    #expect(choice.needs == [.rows(count: 64)])
    #expect(SiteChoice().needs.contains(.ranges) && SiteChoice().needs.contains(.channelMoments))
    for (text, rule) in [
      ("choice,of=", "method-option"), ("choice,of=choice", "method-option"), ("choice,of=nothing", "method-unknown"),
      ("choice,rows=0", "method-option"), ("choice,of=best+choice", "method-option"),
    ] {
      #expect(throws: Refusal.self) { try Methods.method(text) }.map { #expect($0.rule == rule, "\(text)") }
    }
  }

  /// Each site has the plan of the method whose error is the least, and the file tells all errors.
  @Test(arguments: Fixture.allCases) func theLeastErrorIsTaken(_ fixture: Fixture) throws {
    let source = try fixture.source()
    let graph = try source.graph()
    let choice = SiteChoice()
    var settings = Calibration()
    settings.threadCount = 2
    let observed = try settings.run(on: source, samples: Self.samples, kinds: choice.needs)
    var names: Set<String> = []
    for site in graph.sites {
      let known = observed[site]
      let plan = try choice.plan(site, in: graph, bits: 6, known, parameters: source.parameters)
      #expect(plan.trials.map(\.name) == choice.candidates.map(\.text))
      let least = try #require(plan.trials.min { $0.error < $1.error })
      names.insert(least.name)
      let winner = try #require(choice.candidates.first { $0.text == least.name })
      let expected = try winner.method.plan(site, in: graph, bits: 6, known, parameters: source.parameters)
      #expect(plan.transform == expected.transform && plan.activation == expected.activation)
    }
    #expect(names.count > 1, "\(names)")
  }

  @Test func filesRecordTheTrials() throws {
    try withTemporaryFolder { folder in
      var options = ConversionOptions()
      options.bits = 6
      options.activationBits = 8
      options.effort = .thorough
      options.threadCount = 2
      let conversion = try Conversion(Fixture.llama.source(), options: options)
      var settings = Calibration()
      settings.threadCount = 2
      let observed = try settings.run(on: conversion.model, samples: Self.samples, kinds: conversion.needs)
      let plan = try settings.rounding(conversion.plan(observed), samples: Self.samples, in: folder)
      try Converter(plan).run(to: folder + "/m.otq")
      let method = try PackedModel(path: folder + "/m.otq").container.metadata["method"]
      #expect(method?["name"]?.string == "choice" && method?["rounding"]?["name"]?.string == "gptq")
      let trials = try #require(method?["trials"]?.object)
      let sites = try #require(conversion.graph?.sites)
      #expect(trials.members.map(\.key).sorted() == sites.map(\.producer).sorted())
      for entry in trials.members { #expect(entry.value.object?.members.count == SiteChoice().candidates.count) }
    }
  }
}
