import OTFoundation
import OTJSON
import OTTokenizer
import Testing
import _OTTestSupport

/// Pairs of texts, cut and put together, as the reference does it (scripts/make-tokenizer-goldens).
@Suite struct PairTests {
  private func tokenizer(_ postProcessor: JSONValue) throws -> Tokenizer {
    let path = Fixtures.path("tokenizers/bert.json")
    var json = try #require(try JSONValue.parse(contentsOf: try MappedFile(path: path)).object)
    json["post_processor"] = postProcessor
    return try Tokenizer(json: .object(json), file: path)
  }

  @Test func pairsAreThoseOfTheReference() throws {
    let goldens = try JSONValue.parse(contentsOf: try MappedFile(path: Fixtures.path("tokenizers/pairs.json")))
    var count = 0
    for golden in try #require(goldens.array) {
      let tokenizer = try tokenizer(golden["post_processor"] ?? .null)
      for pair in golden["pairs"]?.array ?? [] {
        let texts = try #require(pair["texts"]?.array).compactMap(\.string)
        let encoding = try tokenizer.encode(texts[0], pair: texts[1], limit: pair["limit"]?.integer)
        let name = "\(golden["name"]?.string ?? ""): \(texts), \(pair["limit"]?.integer ?? 0)"
        #expect(encoding.tokenIDs == pair["ids"]?.array?.compactMap(\.integer), "\(name)")
        #expect(encoding.types == pair["types"]?.array?.compactMap(\.integer), "\(name)")
        let whole = try tokenizer.encode(texts[0], pair: texts[1], limit: nil)
        #expect(encoding.isCut == (encoding.tokenIDs.count < whole.tokenIDs.count), "\(name)")
        count += 1
      }
    }
    #expect(count == 7 * 24)
  }

  /// One text is what `encode` gives, cut before the special tokens behind it.
  @Test func oneTextIsCutAtItsEnd() throws {
    let path = Fixtures.path("models/bert-classifier-mini/tokenizer.json")
    let tokenizer = try Tokenizer(path: path)
    let all = try tokenizer.encode("In the beginning", addSpecialTokens: true)
    #expect(try tokenizer.encode("In the beginning", pair: nil, limit: nil).tokenIDs == all)
    let cut = try tokenizer.encode("In the beginning", pair: nil, limit: 4)
    #expect(cut.isCut && cut.tokenIDs == all.prefix(3) + [3] && cut.types == [0, 0, 0, 0])
  }

  /// Two post-processors that both add tokens have no say about pairs together, which is refused.
  @Test func severalTemplatesAreRefused() throws {
    let one = try JSONValue.parse(#"{"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}"#)
    let tokenizer = try tokenizer(.object(["type": .string("Sequence"), "processors": .array([one, one])]))
    #expect(try tokenizer.encode("a", pair: nil, limit: nil).tokenIDs.count > 4)
    let refusal = try #require(
      #expect(throws: Refusal.self) { try tokenizer.encode("a", pair: "b", limit: nil) })
    #expect(refusal.rule == "tokenizer-unsupported")
  }
}
