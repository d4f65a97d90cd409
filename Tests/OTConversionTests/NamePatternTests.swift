import OTConversion
import OTFoundation
import OTModel
import Testing
import _OTModelSupport
import _OTTestSupport

@Suite struct NamePatternTests {
  private func refusal(_ fixture: Fixture, _ change: (inout ConversionOptions) throws -> Void) throws -> Refusal? {
    var options = ConversionOptions()
    try change(&options)
    do {
      _ = try Conversion(fixture.source(), options: options)
      return nil
    } catch {
      return try #require(error as? Refusal)
    }
  }

  /// Options that would do nothing: the file would be another than the one that was asked for.
  @Test(arguments: Fixture.allCases)
  func patternsWithoutAMatchAreRefused(_ fixture: Fixture) throws {
    for text in ["nosuch", "re:.*q_proj", "layers\\.99\\.", "norm"] {
      let excluded = try refusal(fixture) { $0.exclude = [try pattern(text)] }
      #expect(excluded?.rule == "pattern-no-match" && excluded?.message.contains("'\(text)'") == true)
      let chosen = try refusal(fixture) { $0.bitsFor = [(try pattern(text), 4)] }
      #expect(chosen?.rule == "pattern-no-match" && chosen?.message.contains("--bits-for") == true)
    }
    // One that matches does not excuse another.
    #expect(try refusal(fixture) { $0.exclude = [try pattern("."), try pattern("nosuch")] } != nil)
    #expect(try refusal(fixture) { $0.exclude = [try pattern(".")] } == nil)
  }

  @Test func remediesHelp() throws {
    let marked = try refusal(.llama) { $0.exclude = [try pattern("re:.*q_proj")] }
    #expect(marked?.remedy?.contains("re:") == true)
    #expect(try refusal(.llama) { $0.exclude = [try pattern(".*q_proj")] } == nil)
    // The nearest of the names that are given can be used.
    let misspelled = try refusal(.llama) { $0.exclude = [try pattern("self_attn.qproj")] }
    #expect(misspelled?.message.contains("the nearest are 'model.layers.0.self_attn.q_proj'") == true)
    #expect(try refusal(.llama) { $0.exclude = [try pattern("model.layers.0.self_attn.q_proj")] } == nil)
  }

  @Test func namesWithoutAGraphAreTheTensors() throws {
    try withTemporaryFolder { folder in
      var builder = CheckpointBuilder()
      builder.add("a.weight", [16, 16], floats: [Float](repeating: 1, count: 256))
      let source = try SourceModel(builder.write(to: folder + "/model.safetensors"), path: "m")
      var options = ConversionOptions()
      options.isWeightsOnly = true
      options.exclude = [try pattern("a\\.weight$")]
      _ = try Conversion(source, options: options)
      options.exclude = [try pattern("b\\.weight$")]
      let refusal = #expect(throws: Refusal.self) { _ = try Conversion(source, options: options) }
      #expect(refusal?.message.contains("'a.weight'") == true)
    }
  }
}
