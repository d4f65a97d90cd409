import Foundation
import OTFoundation
import OTJSON
import OTTokenizer
import Testing
import _OTTestSupport

/// The result of the package `tokenizers` for one text: see
/// scripts/make-tokenizer-goldens.
struct Golden {
  let text: String
  let ids: [Int]
  /// With special tokens, as text with and without them.
  let special: [Int]
  let decoded: String
  let plain: String

  init(_ json: JSONValue, text: String?) throws {
    let ownText = json["text"]?.string
    self.text = try #require(text ?? ownText)
    ids = try #require(json["ids"]?.array).compactMap(\.integer)
    special = try #require(json["special"]?.array).compactMap(\.integer)
    decoded = try #require(json["decoded"]?.string)
    plain = try #require(json["plain"]?.string)
  }

  static func read(_ path: String, texts: [String]?) throws -> [Golden] {
    let json = try JSONValue.parse(contentsOf: try MappedFile(path: path))
    let list = try #require(json.array)
    return try list.enumerated().map { try Golden($1, text: texts?[$0]) }
  }

  static func texts() throws -> [String] {
    let file = try MappedFile(path: Fixtures.path("tokenizers/texts.json"))
    let json = try JSONValue.parse(contentsOf: file)
    let list = try #require(json.array)
    return list.compactMap(\.string)
  }

  /// Compares bytes: equal Strings may differ in their scalars.
  func check(_ tokenizer: Tokenizer) throws {
    let name = Comment(rawValue: Refusal.printable(String(text.prefix(300))))
    #expect(try tokenizer.encode(text, addSpecialTokens: false) == ids, name)
    #expect(try tokenizer.encode(Array(text.utf8), addSpecialTokens: true) == special, name)
    let decoded = tokenizer.decode(special, skipSpecialTokens: false)
    #expect(Array(decoded.utf8) == Array(self.decoded.utf8), name)
    let plain = tokenizer.decode(special, skipSpecialTokens: true)
    #expect(Array(plain.utf8) == Array(self.plain.utf8), name)
  }

  /// The pieces of a stream, joined, are the text.
  func checkStream(_ tokenizer: Tokenizer) {
    var stream = TokenTextStream(tokenizer)
    var parts = special.map { stream.append($0) }
    parts.append(stream.finish())
    #expect(
      parts.flatMap { Array($0.utf8) } == Array(plain.utf8),
      Comment(rawValue: Refusal.printable(String(text.prefix(300)))))
  }
}

@Suite struct GoldenTests {
  static let styles = [
    "bert", "bert-cased", "bloom", "llama2", "llama3", "metaspace-unknown", "mistral", "o200k",
    "opt", "qwen2", "suffix", "unigram", "unigram-bytes", "wordlevel",
  ]

  @Test(arguments: styles) func everyStyleGivesTheIDsOfTheReference(style: String) throws {
    let tokenizer = try Tokenizer(path: Fixtures.path("tokenizers/\(style).json"))
    let goldens = try Golden.read(
      Fixtures.path("tokenizers/\(style).goldens.json"), texts: try Golden.texts())
    for golden in goldens { try golden.check(tokenizer) }
  }

  @Test func theModelsOwnTokenizerGivesTheIDsOfTheReference() throws {
    let tokenizer = try Tokenizer(path: Fixtures.path("models/opt-mini/tokenizer.json"))
    let goldens = try Golden.read(
      Fixtures.path("tokenizers/opt-mini.goldens.json"), texts: try Golden.texts())
    for golden in goldens { try golden.check(tokenizer) }
  }

  @Test(arguments: styles) func streamedPartsJoinToTheText(style: String) throws {
    let tokenizer = try Tokenizer(path: Fixtures.path("tokenizers/\(style).json"))
    let goldens = try Golden.read(
      Fixtures.path("tokenizers/\(style).goldens.json"), texts: try Golden.texts())
    for golden in goldens { golden.checkStream(tokenizer) }
  }

  /// Whole files on models that are not committed: the environment variable
  /// names a folder of model folders, into which the script wrote
  /// tokenizer.goldens.json.
  @Test func realModelsGiveTheIDsOfTheReference() throws {
    guard let folder = ProcessInfo.processInfo.environment["OTQ_REAL_MODELS"] else { return }
    for name in try FileManager.default.contentsOfDirectory(atPath: folder).sorted() {
      let goldens = "\(folder)/\(name)/tokenizer.goldens.json"
      guard FileManager.default.fileExists(atPath: goldens) else { continue }
      let tokenizer = try Tokenizer(path: "\(folder)/\(name)/tokenizer.json")
      for golden in try Golden.read(goldens, texts: nil) { try golden.check(tokenizer) }
    }
  }
}
