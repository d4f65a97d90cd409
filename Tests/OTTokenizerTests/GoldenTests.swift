import Foundation
import OTFoundation
import OTJSON
import OTTokenizer
import Testing
import _OTTestSupport

/// The results of the reference for one text: see scripts/make-tokenizer-goldens, which prints what a digest is
/// made of.
struct Golden {
  let number: Int
  let text: String
  let digest: String

  /// Digests for each of the texts of the fixtures, or for those that are in the file.
  static func read(_ path: String, texts: [String]? = nil) throws -> [Golden] {
    let json = try JSONValue.parse(contentsOf: try MappedFile(path: path))
    let own = json["texts"]?.array?.compactMap(\.string)
    let texts = try #require(own ?? texts)
    let digests = try #require((json["digests"] ?? json).array).compactMap(\.string)
    try #require(digests.count == texts.count)
    return zip(texts, digests).enumerated().map { Golden(number: $0, text: $1.0, digest: $1.1) }
  }

  static func texts() throws -> [String] {
    let json = try JSONValue.parse(contentsOf: try MappedFile(path: Fixtures.path("tokenizers/texts.json")))
    return try #require(json.array).compactMap(\.string)
  }

  /// Ids and texts are those of the reference.
  func check(_ tokenizer: Tokenizer) throws {
    func list(_ ids: [Int]) -> String { ids.map { "\($0)" }.joined(separator: ",") }
    let ids = try tokenizer.encode(text, addSpecialTokens: false)
    let special = try tokenizer.encode(Array(text.utf8), addSpecialTokens: true)
    let lines = [
      list(ids), list(special), tokenizer.decode(special, skipSpecialTokens: false),
      tokenizer.decode(special, skipSpecialTokens: true),
    ]
    var value: UInt32 = 0x811C_9DC5
    for line in lines {
      for byte in Array(line.utf8) + [0] { value = (value ^ UInt32(byte)) &* 0x0100_0193 }
    }
    let found = String(value, radix: 16)
    let name = "\(number): \(text.prefix(300)): \(lines.joined(separator: " | ").prefix(600))"
    #expect(
      String(repeating: "0", count: 8 - found.count) + found == digest, Comment(rawValue: Refusal.printable(name)))
  }

  /// The pieces of a stream, joined, are the text.
  func checkStream(_ tokenizer: Tokenizer) throws {
    let special = try tokenizer.encode(text, addSpecialTokens: true)
    var stream = TokenTextStream(tokenizer)
    var parts = special.map { stream.append($0) }
    parts.append(stream.finish())
    #expect(
      parts.flatMap { Array($0.utf8) } == Array(tokenizer.decode(special, skipSpecialTokens: true).utf8),
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
    for golden in goldens { try golden.checkStream(tokenizer) }
  }

  static let folders = [
    "bert", "bert-cased", "gpt2", "json-bert", "json-gpt2", "json-tokens", "llama", "llama-legacy", "mistral", "opt",
    "qwen2",
    "roberta", "spm-bpe", "spm-unigram", "t5", "xlm-roberta",
  ]

  /// Older files, and what tokenizer_config.json adds, as `AutoTokenizer` has them.
  @Test(arguments: folders) func everyFolderGivesTheIDsOfTheReference(name: String) throws {
    let folder = Fixtures.path("tokenizers/folders/\(name)")
    let files = tokenizerFiles(folder)
    let tokenizer = try #require(try files.tokenizer())
    let texts = try Golden.texts().filter { $0.unicodeScalars.count <= 60 }
    #expect(texts.count >= 400)
    for golden in try Golden.read("\(folder)/goldens.json", texts: texts) { try golden.check(tokenizer) }
    // What is written into a packed file is the same tokenizer.
    guard let made = try files.translation() else { return }
    let packed = TokenizerFiles(
      json: { $0 == "tokenizer.json" ? made.json : try readJSON("\(folder)/\($0)") }, bytes: { _ in nil }, path: { $0 })
    let again = try #require(try packed.tokenizer())
    for text in texts {
      #expect(try again.encode(text, addSpecialTokens: true) == tokenizer.encode(text, addSpecialTokens: true))
    }
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
      for golden in try Golden.read(goldens) { try golden.check(tokenizer) }
    }
  }
}

private func readJSON(_ path: String) throws -> JSONValue? {
  guard FileManager.default.fileExists(atPath: path) else { return nil }
  return try JSONValue.parse(contentsOf: try MappedFile(path: path))
}

/// The tokenizer's files in a folder.
func tokenizerFiles(_ folder: String) -> TokenizerFiles {
  TokenizerFiles(
    json: { try readJSON("\(folder)/\($0)") },
    bytes: { name in
      guard FileManager.default.fileExists(atPath: "\(folder)/\(name)") else { return nil }
      let file = try MappedFile(path: "\(folder)/\(name)")
      return withExtendedLifetime(file) { Array(file.bytes) }
    }, path: { "\(folder)/\($0)" })
}
