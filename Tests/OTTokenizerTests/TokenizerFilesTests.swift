import Foundation
import OTFoundation
import OTJSON
import OTTokenizer
import Testing
import _OTTestSupport

/// Older files of tokenizers, damaged and unusual.
@Suite struct TokenizerFilesTests {
  /// Files of a folder that is not on disk.
  private func files(_ contents: [String: [UInt8]]) -> TokenizerFiles {
    TokenizerFiles(
      json: { name in
        try contents[name].map { try JSONValue.parse(String(decoding: $0, as: UTF8.self), file: name) }
      }, bytes: { contents[$0] }, path: { $0 })
  }

  private func folder(_ name: String) throws -> [String: [UInt8]] {
    let path = Fixtures.path("tokenizers/folders/\(name)")
    var contents: [String: [UInt8]] = [:]
    for file in try FileManager.default.contentsOfDirectory(atPath: path) {
      contents[file] = [UInt8](try Data(contentsOf: URL(fileURLWithPath: "\(path)/\(file)")))
    }
    return contents
  }

  @Test func aFolderWithoutFilesHasNoTokenizer() throws {
    #expect(try files(["config.json": Array("{}".utf8), "vocab.json": Array("{}".utf8)]).tokenizer() == nil)
  }

  static let damaged: [(rule: String, files: [String: String])] = [
    ("tokenizer-syntax", ["vocab.json": "{\"a\":0}", "merges.txt": "a"]),
    ("tokenizer-syntax", ["vocab.json": "[]", "merges.txt": ""]),
    ("tokenizer-vocabulary", ["vocab.json": "{\"a\":0}", "merges.txt": "#version: 0.2\na a\n"]),
    ("tokenizer-vocabulary", ["vocab.json": "{\"a\":-1}", "merges.txt": ""]),
    (
      "tokenizer-vocabulary",
      ["vocab.txt": "a\nb\n", "tokenizer_config.json": "{\"tokenizer_class\":\"BertTokenizer\"}"]
    ),
    // Tokens become members of tokenizer.json.
    ("tokenizer-vocabulary", ["vocab.txt": "[UNK]\n[CLS]\n[SEP]\na\0b\n"]),
    (
      "tokenizer-vocabulary",
      [
        "vocab.txt": "[UNK]\n[SEP]\na\n",
        "tokenizer_config.json": #"{"cls_token":"a\u0000","added_tokens_decoder":{"3":{"content":"a\u0000"}}}"#,
      ]
    ),
    // A word that occurs twice leaves an id out, and [PAD] and [CLS], which are added, would get one that another has.
    ("tokenizer-vocabulary", ["vocab.txt": "[UNK]\n[SEP]\n[MASK]\n[MASK]\n"]),
    ("tokenizer-unsupported", ["vocab.txt": "a", "tokenizer_config.json": "{\"tokenizer_class\":\"EsmTokenizer\"}"]),
    (
      "tokenizer-unsupported",
      ["vocab.json": "{}", "merges.txt": "", "tokenizer_config.json": "{\"tokenizer_class\":\"CLIPTokenizer\"}"]
    ),
    ("tokenizer-sentencepiece", ["tokenizer.model": ""]),
    ("tokenizer-sentencepiece", ["tokenizer.model": "version https://git-lfs.github.com/spec/v1\n"]),
    ("tokenizer-sentencepiece", ["tokenizer.model": "\u{A}\u{7F}"]),
    ("tokenizer-syntax", ["vocab.txt": "[UNK]", "tokenizer_config.json": "{\"tokenizer_class\":1}"]),
    (
      "tokenizer-vocabulary",
      [
        "tokenizer.json": "{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}",
        "tokenizer_config.json": "{\"added_tokens_decoder\":{\"x\":{\"content\":\"a\"}}}",
      ]
    ),
    (
      "tokenizer-vocabulary",
      [
        "tokenizer.json": "{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}",
        "added_tokens.json": "{\"a\":-1}",
      ]
    ),
  ]

  @Test(arguments: damaged) func damagedFilesAreRefused(rule: String, contents: [String: String]) {
    let error = #expect(throws: Refusal.self) { try files(contents.mapValues { Array($0.utf8) }).tokenizer() }
    #expect(error?.rule == rule)
  }

  @Test func filesThatAreNotUTF8AreRefused() {
    for contents: [String: [UInt8]] in [["vocab.txt": [0xFF]], ["vocab.json": Array("{}".utf8), "merges.txt": [0xC3]]] {
      let error = #expect(throws: Refusal.self) { try files(contents).tokenizer() }
      #expect(error?.rule == "tokenizer-syntax")
    }
  }

  /// Any change of a SentencePiece model makes it another one or a refused one, and nothing else.
  @Test(arguments: [("mistral", "tokenizer.model"), ("t5", "spiece.model"), ("llama", "tokenizer.model")])
  func damagedSentencePieceModelsDoNoHarm(name: String, file: String) throws {
    var contents = try folder(name)
    let bytes = try #require(contents[file])
    var generator = SeededGenerator()
    var refusedCount = 0
    for round in 0..<40 {
      var damaged = bytes
      if round % 4 == 0 { damaged.removeLast(Int.random(in: 1..<damaged.count, using: &generator)) }
      for _ in 0..<Int.random(in: 1...20, using: &generator) {
        damaged[Int.random(in: 0..<damaged.count, using: &generator)] = .random(in: .min ... .max, using: &generator)
      }
      contents[file] = damaged
      do {
        let tokenizer = try #require(try files(contents).tokenizer())
        _ = try tokenizer.encode("In the beginning é ０ <own>", addSpecialTokens: true)
      } catch let refusal as Refusal {
        #expect(refusal.rule.hasPrefix("tokenizer-"), "seed \(generator.seed)")
        refusedCount += 1
      }
    }
    #expect(refusedCount > 0, "seed \(generator.seed)")
  }

  /// A prompt that begins with the token that goes before every text has it once.
  @Test func theBeginningIsNotDoubled() throws {
    let tokenizer = try #require(try files(folder("llama")).tokenizer())
    let plain = try tokenizer.encodePrompt("In the beginning")
    let spelled = try tokenizer.encodePrompt("<s>In the beginning")
    #expect(plain.first == tokenizer.id(of: "<s>") && spelled.first == tokenizer.id(of: "<s>"))
    #expect(spelled.dropFirst().first != tokenizer.id(of: "<s>"))
    #expect(try tokenizer.encode("<s>In the beginning", addSpecialTokens: true).prefix(2) == [1, 1])
  }
}
