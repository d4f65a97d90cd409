import OTConversion
import OTGraph
import OTModel
import OTTokenizer
import Testing
import _OTModelSupport
import _OTTestSupport

/// Samples that are kept from calibration.
@Suite struct HeldOutSamplesTests {
  private static func samples(_ count: Int, holdingOut heldOutCount: Int) throws -> Calibration.Samples {
    let source = try Fixture.opt.source()
    let tokenizer = try #require(try Model.source(source).tokenizer())
    var settings = Calibration()
    settings.text.count = count
    settings.text.length = 64
    return try settings.samples(tokenizer: tokenizer, graph: source.graph(), holdingOut: heldOutCount)
  }

  @Test func calibrationHasWhatItWantsWhereTheTextHasMore() throws {
    let all = try Self.samples(100_000, holdingOut: 0)
    #expect(all.heldOut.isEmpty && all.tokens.count > 100 && all.note?.contains("not 100000 of 64") == true)
    let few = try Self.samples(6, holdingOut: 4)
    #expect(few.tokens.count == 6 && few.heldOut.count == 4 && few.note == nil && few.run.sampleCount == 6)
    #expect(Set(few.tokens).isDisjoint(with: few.heldOut))
    // Two more than are wanted; none more.
    let almost = try Self.samples(all.tokens.count - 2, holdingOut: 4)
    #expect(almost.tokens.count == all.tokens.count - 2 && almost.heldOut.count == 2 && almost.note == nil)
    let short = try Self.samples(100_000, holdingOut: 4)
    #expect(short.tokens.count == all.tokens.count - 4 && short.heldOut.count == 4 && short.note == all.note)
    #expect(Set(short.tokens + short.heldOut) == Set(all.tokens))
  }

  /// Of a text with few samples none is spared.
  @Test func aShortTextIsUsedWhole() throws {
    let all = try Self.samples(100_000, holdingOut: 0)
    let short = try Self.samples(100_000, holdingOut: all.tokens.count / 8 + 1)
    #expect(short.heldOut.isEmpty && short.tokens == all.tokens)
  }
}
