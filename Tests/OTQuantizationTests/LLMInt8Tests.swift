import OTConversion
import OTExport
import OTFoundation
import OTGraph
import OTModel
import OTQuantization
import OTRuntime
import OTVerify
import Testing
import _OTModelSupport
import _OTTestSupport

/// LLM.int8(): channels that stay in floating point, from the method to the file and back.
@Suite struct LLMInt8Tests {
  private static func packed(_ setting: MethodSetting, _ methods: [String]) throws -> PackedModel {
    var options = ConversionOptions()
    options.bits = 8
    options.methods = try methods.map(Methods.method)
    options.threadCount = 2
    return try withTemporaryFolder { folder in
      try Converter(Conversion(setting.source, options: options, statistics: setting.observed).plan())
        .run(to: folder + "/m.otq")
      return try PackedModel(path: folder + "/m.otq")
    }
  }

  /// What the authors' program finds on two samples is among what the whole text has.
  @Test(arguments: Fixture.allCases) func outliersAreTheAuthors(_ fixture: Fixture) throws {
    let setting = try MethodSetting.of(fixture)
    let method = try Methods.method("llmint8")
    for (name, site) in setting.sites {
      let plan = try method.plan(setting.context(site, bits: 8, isSymmetric: true))
      let chosen = plan.transform.floatChannels?.listed ?? []
      #expect(plan.activation == .dynamic(bits: 8))
      for row in 0..<2 {
        let key = "llmint8/bnb_t6/outlier_columns/\(name)/row\(row)"
        guard setting.goldens.dimensions(key) != [0] else { continue }
        let columns = try setting.goldens.floats(key).map { Int($0) }
        let missed = columns.filter { !chosen.contains($0) }
        // The two samples are of another text: a channel may be beyond the threshold there alone.
        #expect(missed.count * 3 <= columns.count, "\(fixture) \(name): \(missed)")
      }
    }
  }

  @Test(arguments: Fixture.allCases) func scoresAreThePapers(_ fixture: Fixture) throws {
    let setting = try MethodSetting.of(fixture)
    let score = try setting.score(["llmint8"], bits: 8)
    try setting.expect(score, "llmint8", "paper_t6", within: 0.0005)
  }

  @Test(arguments: Fixture.allCases) func filesVerifyAndUnpack(_ fixture: Fixture) throws {
    let setting = try MethodSetting.of(fixture)
    // As it is, after a method that moves outliers about, and with the rest in other units behind it.
    for methods in [
      ["llmint8,threshold=3"], ["smoothquant", "llmint8,threshold=1"], ["llmint8,threshold=1", "hadamard"],
    ] {
      let file = try Self.packed(setting, methods)
      let graph = try #require(file.graph)
      let splitCount = graph.nodes.count { if case .gather = $0.operation { true } else { false } }
      #expect(splitCount > 0, "\(fixture) \(methods)")
      let verification = try WeightVerification(of: file, reference: setting.source, threadCount: 2)
      #expect(verification.hasPassed, "\(methods): \(verification.offenders.prefix(3))")
      guard methods.count == 1 else { continue }
      try withTemporaryFolder { folder in
        try PackedExport(file, isRestored: true).run(
          into: SafetensorsFileWriter(ExportOutput(path: folder + "/u.safetensors")))
        let unpacked = try SourceModel(path: folder + "/u.safetensors").checkpoint
        for view in setting.source.checkpoint.tensors where view.shape.rank == 2 {
          let got = try TransformedRows(view: #require(unpacked[view.name])).values(rows: 0..<view.shape.rowCount)
          let expected = try TransformedRows(view: view).values(rows: 0..<view.shape.rowCount)
          let size = view.shape.rowElementCount
          for row in 0..<view.shape.rowCount {
            let range = row * size..<(row + 1) * size
            // Half a step of the row is at most its largest weight over 254.
            let largest = expected[range].reduce(0) { max($0, abs($1)) }
            let worst = zip(got[range], expected[range]).reduce(Float(0)) { max($0, abs($1.0 - $1.1)) }
            #expect(worst <= largest * 0.006, "\(view.name) \(row)")
          }
        }
      }
    }
    // Of what is left of a site nothing is known.
    let refusal = #expect(throws: Refusal.self) { _ = try Self.packed(setting, ["llmint8,threshold=3", "minmax"]) }
    #expect(refusal?.rule == "statistics-missing")
  }

  @Test func nothingOrAllAreOutliers() throws {
    let setting = try MethodSetting.of(.llama)
    let site = setting.sites[0].site
    let context = setting.context(site, bits: 8, isSymmetric: true)
    let none = try Methods.method("llmint8,threshold=1000000").plan(context)
    #expect(none.transform.isIdentity && none.activation == .dynamic(bits: 8) && none.weight.scheme != nil)
    let all = try Methods.method("llmint8,threshold=0").plan(context)
    #expect(all.transform.isIdentity && all.activation == .float && all.weight.scheme == nil)
  }
}
