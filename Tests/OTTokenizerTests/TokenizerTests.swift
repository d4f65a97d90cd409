import Foundation
import OTFoundation
import OTJSON
import OTTokenizer
import Testing
import _OTTestSupport

/// Byte-pair encoding of bytes on the letters a, b, c, x, y, z, the digits and
/// a space, with the members given put in or replaced.
private func makeTokenizer(_ members: JSONObject = [:], model: JSONObject = [:]) throws -> Tokenizer {
  var vocabulary = JSONObject()
  for (id, character) in "abcxyz0123456789 Ġ.\u{E9}".enumerated() {
    vocabulary[String(character)] = .integer(id)
  }
  vocabulary["ab"] = .integer(100)
  vocabulary["abc"] = .integer(101)
  vocabulary["bc"] = .integer(102)
  var body: JSONObject = [
    "type": .string("BPE"), "vocab": .object(vocabulary), "merges": .array([.string("a b"), .string("ab c")]),
  ]
  for (key, value) in model.members { body[key] = value }
  var root: JSONObject = ["model": .object(body)]
  for (key, value) in members.members { root[key] = value }
  return try Tokenizer(json: .object(root), file: "tokenizer.json")
}

private func parse(_ text: String) throws -> JSONObject {
  try #require(try JSONValue.parse(text).object)
}

@Suite struct TokenizerTests {
  @Test func mergesInOrderOfRank() throws {
    let tokenizer = try makeTokenizer()
    #expect(try tokenizer.encode("abcab", addSpecialTokens: true) == [101, 100])
    #expect(try tokenizer.encode("bcb", addSpecialTokens: true) == [1, 2, 1])
  }

  /// A space and the mark behind it look like one character.
  @Test func mergesWithMarks() throws {
    let tokenizer = try makeTokenizer(model: [
      "vocab": .object(["a": .integer(0), "\u{301}": .integer(1), "a\u{301}": .integer(2)]),
      "merges": .array([.string("a \u{301}")]),
    ])
    #expect(try tokenizer.encode("a\u{301}", addSpecialTokens: false) == [2])
  }

  /// The merges one at a time, each over the whole word, as the paper says.
  @Test func mergesAsThePlainAlgorithm() throws {
    let merges = [("b", "c"), ("a", "b"), ("ab", "a"), ("c", "a"), ("bc", "bc"), ("aba", "bc"), ("a", "a")]
    var vocabulary: JSONObject = ["a": .integer(0), "b": .integer(1), "c": .integer(2)]
    for (index, merge) in merges.enumerated() { vocabulary[merge.0 + merge.1] = .integer(3 + index) }
    let tokenizer = try makeTokenizer(model: [
      "vocab": .object(vocabulary),
      "merges": .array(merges.map { .array([.string($0.0), .string($0.1)]) }),
    ])
    var generator = SeededGenerator()
    for _ in 0..<300 {
      let word = (0..<Int.random(in: 1...40, using: &generator)).map { _ in
        "abc".randomElement(using: &generator).map(String.init) ?? "a"
      }
      var parts = word
      while let best = merges.first(where: { merge in
        parts.indices.dropFirst().contains { parts[$0 - 1] == merge.0 && parts[$0] == merge.1 }
      }) {
        var merged: [String] = []
        for part in parts {
          if merged.last == best.0 && part == best.1 {
            merged[merged.count - 1] += part
          } else {
            merged.append(part)
          }
        }
        parts = merged
      }
      let ids = try tokenizer.encode(word.joined(), addSpecialTokens: false)
      #expect(ids.compactMap(tokenizer.token) == parts, "seed \(generator.seed)")
    }
  }

  @Test func invalidUTF8IsReplaced() throws {
    let tokenizer = try Tokenizer(path: Fixtures.path("models/opt-mini/tokenizer.json"))
    let broken: [UInt8] = [0x61, 0xFF, 0xE4, 0xBD, 0x62, 0xF0, 0x9F, 0x98, 0xC0, 0x80]
    let text = "a\u{FFFD}\u{FFFD}b\u{FFFD}\u{FFFD}\u{FFFD}"
    let ids = try tokenizer.encode(broken, addSpecialTokens: false)
    #expect(try tokenizer.encode(text, addSpecialTokens: false) == ids)
    #expect(tokenizer.decode(ids, skipSpecialTokens: false) == text)
  }

  @Test(arguments: ["opt-mini", "llama2"]) func streamHoldsBackHalfCharacters(name: String) throws {
    let path = name == "opt-mini" ? "models/opt-mini/tokenizer.json" : "tokenizers/\(name).json"
    let tokenizer = try Tokenizer(path: Fixtures.path(path))
    // No token of these vocabularies holds more than one byte of it.
    let ids = try tokenizer.encode("\u{1F9FF}a", addSpecialTokens: false)
    var stream = TokenTextStream(tokenizer)
    let parts = ids.map { stream.append($0) }
    #expect(!parts.contains { $0.unicodeScalars.contains("\u{FFFD}") })
    #expect(parts.joined() == "\u{1F9FF}a")
    // Bytes that follow one another are text together: they wait for the token that is none.
    #expect(parts.filter { !$0.isEmpty }.count == (name == "llama2" ? 1 : 2))
    #expect(stream.finish() == "")
  }

  @Test func streamGivesUpOnBytesThatFormNoCharacter() throws {
    let tokenizer = try Tokenizer(path: Fixtures.path("models/opt-mini/tokenizer.json"))
    let id = try #require(tokenizer.id(of: "\u{13F}"))  // byte 0x9D
    var stream = TokenTextStream(tokenizer)
    var length = 0
    for _ in 0..<100 { length += stream.append(id).unicodeScalars.count }
    #expect(length > 80)
    length += stream.finish().unicodeScalars.count
    #expect(length == 100)
  }

  /// A byte that breaks a run makes each of its bytes U+FFFD, also in a stream.
  @Test func aBrokenRunOfBytesIsBrokenAsAWhole() throws {
    let tokenizer = try Tokenizer(path: Fixtures.path("tokenizers/llama2.json"))
    let ids = try ["<0xC3>", "<0xA9>", "<0xFF>"].map { try #require(tokenizer.id(of: $0)) }
    #expect(tokenizer.decode(ids, skipSpecialTokens: false) == "\u{FFFD}\u{FFFD}\u{FFFD}")
    var stream = TokenTextStream(tokenizer)
    #expect(ids.map { stream.append($0) }.joined() + stream.finish() == "\u{FFFD}\u{FFFD}\u{FFFD}")
    // The text of a prompt is out: what follows is no part of it.
    var continued = TokenTextStream(tokenizer, after: ids.prefix(2))
    #expect(continued.append(ids[2]) + continued.finish() == "\u{FFFD}")
  }

  /// The ids of added tokens where the vocabulary has gaps, as tokenizers 0.23.3 gives them.
  @Test func addedTokensGetTheIDsOfTheReference() throws {
    func ids(_ vocabulary: String, _ contents: [[String]]) throws -> [String: Int] {
      let model = try parse(#"{"type":"BPE","merges":[],"vocab":\#(vocabulary)}"#)
      let listed = try contents[0].map { try JSONValue.parse(#"{"id":9,"content":"\#($0)","special":true}"#) }
      let tokenizer = try Tokenizer(
        json: .object(["model": .object(model), "added_tokens": .array(listed)]), file: "t",
        adding: contents.dropFirst().map { list in list.map { AddedToken($0, isSpecial: false) } })
      let all = Set(contents.joined())
      return Dictionary(uniqueKeysWithValues: all.compactMap { text in tokenizer.id(of: text).map { (text, $0) } })
    }
    #expect(try ids(#"{"a":0,"b":1,"c":5}"#, [["c", "<x>", "<y>"]]) == ["c": 5, "<x>": 3, "<y>": 4])
    #expect(
      try ids(#"{"a":0,"b":1,"c":4}"#, [["<x>", "c"], ["n1"], ["c"], ["n2", "n3"]])
        == ["<x>": 3, "c": 4, "n1": 5, "n2": 6, "n3": 7])
    #expect(try ids(#"{"a":0,"b":1,"c":4}"#, [["c", "<x>", "<y>"]]) == ["c": 4, "<x>": 3, "<y>": 4])
    #expect(try ids(#"{"a":0,"b":1,"c":2}"#, [["c", "", "<x>", "<x>"], ["a", "<x>"]]) == ["c": 2, "<x>": 3, "a": 0])
  }

  /// A table of characters is data of a file: any change of it may change texts, and does nothing else.
  @Test func damagedCharacterMapsDoNoHarm() throws {
    let path = Fixtures.path("tokenizers/unigram.json")
    let json = try JSONValue.parse(contentsOf: try MappedFile(path: path))
    let text = try #require(json["normalizer"]?["precompiled_charsmap"]?.string)
    let bytes = [UInt8](try #require(Data(base64Encoded: text)))
    var generator = SeededGenerator()
    for round in 0..<200 {
      var damaged = bytes
      if round % 4 == 0 { damaged.removeLast(Int.random(in: 1..<damaged.count, using: &generator)) }
      for _ in 0..<Int.random(in: 1...200, using: &generator) where !damaged.isEmpty {
        // The trie comes first.
        damaged[Int.random(in: 0..<damaged.count, using: &generator)] = .random(in: .min ... .max, using: &generator)
      }
      let normalizer: JSONObject = [
        "type": .string("Precompiled"), "precompiled_charsmap": .string(Data(damaged).base64EncodedString()),
      ]
      guard let tokenizer = try? makeTokenizer(["normalizer": .object(normalizer)]) else { continue }
      _ = try tokenizer.encode("aé ﬁ Ⅷ ½ ㎏ e\u{301} \u{FF21}", addSpecialTokens: false)
    }
  }

  @Test func namesTokensAndSizes() throws {
    let tokenizer = try makeTokenizer(
      try parse(#"{"added_tokens":[{"id":200,"content":"<x>","special":true}],"truncation":{"max_length":9}}"#))
    // The vocabulary has 23 tokens, with ids up to 102: the reference does not look at the id in the file.
    #expect(tokenizer.vocabularySize == 103)
    #expect(tokenizer.maximumLength == 9)
    #expect(tokenizer.id(of: "<x>") == 23 && tokenizer.token(23) == "<x>" && tokenizer.isSpecial(23))
    #expect(tokenizer.id(of: "abc") == 101 && tokenizer.token(101) == "abc" && !tokenizer.isSpecial(101))
    #expect(tokenizer.id(of: "e\u{301}") == nil)
    // The reference does not look up the ids of a template either: a model must have rows for them.
    let template = try makeTokenizer(
      try parse(#"{"post_processor":{"type":"BertProcessing","cls":["[CLS]",7],"sep":["[SEP]",500]}}"#))
    #expect(template.vocabularySize == 501)
    #expect(tokenizer.token(150) == nil)
    #expect(try tokenizer.encode("a<x>b", addSpecialTokens: false) == [0, 23, 1])
    #expect(tokenizer.decode([150, 0, -1, 23, 0], skipSpecialTokens: true) == "a a")
  }

  /// A word of a million letters, twice as long as one that would take minutes
  /// if merging were quadratic.
  @Test func longWordsAreMerged() throws {
    let tokenizer = try makeTokenizer()
    let ids = try tokenizer.encode(String(repeating: "abcx", count: 50_000), addSpecialTokens: false)
    #expect(ids == Array(repeating: [101, 3], count: 50_000).flatMap { $0 })
  }
}

@Suite struct TokenizerRefusalTests {
  static let files: [(rule: String, json: String)] = [
    ("tokenizer-syntax", "[]"),
    ("tokenizer-syntax", "{}"),
    ("tokenizer-syntax", #"{"model":[]}"#),
    ("tokenizer-syntax", #"{"model":{"type":"BPE","vocab":[],"merges":[]}}"#),
    ("tokenizer-syntax", #"{"model":{"type":"BPE","vocab":{"a":0}}}"#),
    ("tokenizer-syntax", #"{"model":{"type":"BPE","vocab":{"a":0},"merges":["a"]}}"#),
    ("tokenizer-syntax", #"{"model":{"type":"BPE","vocab":{"a":0},"merges":[["a"]]}}"#),
    ("tokenizer-syntax", #"{"model":{"type":"BPE","vocab":{"a":0},"merges":[7]}}"#),
    ("tokenizer-vocabulary", #"{"model":{"type":"BPE","vocab":{"a":0},"merges":["a a"]}}"#),
    ("tokenizer-vocabulary", #"{"model":{"type":"BPE","vocab":{"a":0},"merges":[],"unk_token":"u"}}"#),
    ("tokenizer-vocabulary", #"{"model":{"type":"BPE","vocab":{"a":-1},"merges":[]}}"#),
    ("tokenizer-vocabulary", #"{"model":{"type":"BPE","vocab":{"a":2147483648},"merges":[]}}"#),
    ("tokenizer-vocabulary", #"{"model":{"type":"BPE","vocab":{"a":"0"},"merges":[]}}"#),
    ("tokenizer-vocabulary", #"{"model":{"type":"WordPiece","vocab":{"a":0},"unk_token":"[UNK]"}}"#),
    ("tokenizer-syntax", #"{"model":{"type":"WordPiece","vocab":{"a":0}}}"#),
    ("tokenizer-unsupported", #"{"model":{"type":"BPE","vocab":{"a":0},"merges":[],"dropout":0.1}}"#),
    ("tokenizer-syntax", #"{"model":{"type":"Unigram","vocab":{}}}"#),
    ("tokenizer-syntax", #"{"model":{"type":"Unigram","vocab":[["a"]]}}"#),
    ("tokenizer-syntax", #"{"model":{"type":"Unigram","vocab":[["a","b"]]}}"#),
    ("tokenizer-syntax", #"{"model":{"type":"Unigram","vocab":[["a",0]],"unk_id":-1}}"#),
    ("tokenizer-vocabulary", #"{"model":{"type":"Unigram","vocab":[["a",0]],"unk_id":1}}"#),
    ("tokenizer-syntax", #"{"model":{"type":"WordLevel","vocab":{"a":0}}}"#),
    ("tokenizer-unsupported", #"{"model":{"type":"Trigram","vocab":{"a":0}}}"#),
  ]

  @Test(arguments: files) func filesAreRefused(rule: String, json: String) throws {
    let value = try JSONValue.parse(json)
    let error = #expect(throws: Refusal.self) { try Tokenizer(json: value, file: "t.json") }
    #expect(error?.rule == rule)
    #expect(error?.file == "t.json")
  }

  static let members: [(rule: String, json: String)] = [
    ("tokenizer-syntax", #"{"normalizer":{"type":"Precompiled","precompiled_charsmap":""}}"#),
    ("tokenizer-syntax", #"{"normalizer":{"type":"Precompiled","precompiled_charsmap":"!"}}"#),
    ("tokenizer-syntax", #"{"normalizer":{"type":"Precompiled","precompiled_charsmap":"/////wAA"}}"#),
    ("tokenizer-syntax", #"{"normalizer":{"type":"Precompiled","precompiled_charsmap":"BAAAAAAAAAD/"}}"#),
    ("tokenizer-unsupported", #"{"normalizer":{"type":"Unknown"}}"#),
    ("tokenizer-syntax", #"{"normalizer":{}}"#),
    ("tokenizer-syntax", #"{"normalizer":{"type":"Replace","pattern":{},"content":""}}"#),
    ("tokenizer-syntax", #"{"normalizer":{"type":"Sequence","normalizers":{}}}"#),
    ("tokenizer-unsupported", #"{"pre_tokenizer":{"type":"UnicodeScripts"}}"#),
    ("tokenizer-unsupported", #"{"pre_tokenizer":{"type":"Split","pattern":{"String":"a"},"behavior":"Sideways"}}"#),
    ("tokenizer-syntax", #"{"pre_tokenizer":{"type":"ByteLevel","use_regex":1}}"#),
    ("tokenizer-syntax", #"{"pre_tokenizer":{"type":"Metaspace","replacement":"ab"}}"#),
    ("tokenizer-unsupported", #"{"pre_tokenizer":{"type":"Metaspace","replacement":"a","prepend_scheme":"x"}}"#),
    (
      "tokenizer-syntax",
      #"{"pre_tokenizer":{"type":"Metaspace","replacement":"a","prepend_scheme":"first","add_prefix_space":false}}"#
    ),
    ("tokenizer-unsupported", #"{"decoder":{"type":"CTC"}}"#),
    ("tokenizer-syntax", #"{"decoder":{"type":"Strip","content":" ","start":-1}}"#),
    ("tokenizer-unsupported", #"{"post_processor":{"type":"Other"}}"#),
    ("tokenizer-syntax", #"{"post_processor":{"type":"BertProcessing","cls":["a"],"sep":["b",1]}}"#),
    ("tokenizer-unsupported", #"{"post_processor":{"type":"TemplateProcessing","single":[],"special_tokens":{}}}"#),
    (
      "tokenizer-vocabulary",
      #"{"post_processor":{"type":"TemplateProcessing","special_tokens":{"s":{"ids":[]}},"#
        + #""single":[{"SpecialToken":{"id":"s"}},{"Sequence":{"id":"A"}}]}}"#
    ),
    ("tokenizer-syntax", #"{"added_tokens":[{"id":3}]}"#),
    ("tokenizer-syntax", #"{"added_tokens":[{"id":-3,"content":"q"}]}"#),
  ]

  @Test(arguments: members) func membersAreRefused(rule: String, json: String) throws {
    let object = try parse(json)
    let error = #expect(throws: Refusal.self) { try makeTokenizer(object) }
    #expect(error?.rule == rule)
  }

  static let patterns = [
    "(", ")", "a)", "[a", "[]", "[^]", "*", "(?P<n>a)", "\\1", "\\p{Nothing}", "\\p{", "\\", "[b-a]", "(?<=a",
    "(?<n>\\g<n>)", "\\Ga", "a{100001}", "(?z:a)", String(repeating: "(", count: 100_000),
    String(repeating: "(", count: 200) + String(repeating: ")", count: 200),
    String(repeating: "[", count: 100_000), String(repeating: "a|", count: 2_000_000),
  ]

  @Test(arguments: patterns) func patternsAreRefused(pattern: String) {
    let split: JSONObject = [
      "type": .string("Split"), "behavior": .string("Isolated"), "pattern": .object(["Regex": .string(pattern)]),
    ]
    let error = #expect(throws: Refusal.self) { try makeTokenizer(["pre_tokenizer": .object(split)]) }
    #expect(error?.rule == "tokenizer-regex")
  }

  @Test func addedTokensOfUnboundedLengthAreRefused() throws {
    let token: JSONObject = ["id": .integer(300), "content": .string(String(repeating: "a", count: 5000))]
    let error = #expect(throws: Refusal.self) {
      try makeTokenizer(["added_tokens": .array([.object(token)])])
    }
    #expect(error?.rule == "tokenizer-unsupported")
  }
}

/// The patterns of Split, which a library runs: its results, and the limits put on it.
@Suite struct SplitTests {
  /// The pieces of a text: every piece begins with a character, and goes on with those after `##`.
  private func pieces(of text: String, split: JSONObject) throws -> [String] {
    var vocabulary = JSONObject()
    for scalar in Set(text.unicodeScalars) {
      vocabulary[String(scalar)] = .integer(vocabulary.members.count)
      vocabulary["##\(scalar)"] = .integer(vocabulary.members.count)
    }
    let tokenizer = try makeTokenizer(
      ["pre_tokenizer": .object(split)],
      model: ["vocab": .object(vocabulary), "merges": .array([]), "continuing_subword_prefix": .string("##")])
    var pieces: [String] = []
    for id in try tokenizer.encode(text, addSpecialTokens: false) {
      let token = try #require(tokenizer.token(id)).unicodeScalars
      if token.count > 2, token.starts(with: "##".unicodeScalars) {
        pieces[pieces.count - 1].unicodeScalars += token.dropFirst(2)
      } else {
        pieces.append(String(token))
      }
    }
    return pieces
  }

  private func split(_ pattern: String, _ behavior: String = "Removed", isInverted: Bool = false) -> JSONObject {
    [
      "type": .string("Split"), "behavior": .string(behavior), "invert": .bool(isInverted),
      "pattern": .object(["Regex": .string(pattern)]),
    ]
  }

  /// Every kind of pattern and behaviour, in the reference: see scripts/make-tokenizer-goldens.
  @Test func patternsSplitAsTheReference() throws {
    let path = Fixtures.path("tokenizers/patterns.json")
    let cases = try #require(try JSONValue.parse(contentsOf: try MappedFile(path: path)).array)
    #expect(cases.count >= 400)
    for item in cases {
      let pattern = try #require(item["pattern"]?.string)
      let text = try #require(item["text"]?.string)
      let behavior = try #require(item["behavior"]?.string)
      let expected = try #require(item["pieces"]?.array).compactMap(\.string)
      let found = try pieces(of: text, split: split(pattern, behavior, isInverted: item["invert"]?.bool ?? false))
      #expect(found.map { Array($0.utf8) } == expected.map { Array($0.utf8) }, "\(pattern) on \(text)")
    }
  }

  /// Patterns that the library would try for hours: exponentially many ways, or every place of the
  /// text anew from every other.
  @Test(arguments: [
    ("(?:a|a|ab){40}[x-z]|d", 60), ("(?=[ab]*[xy]|c)a", 300_000), ("[ab]*(?=[ab]*[xy])[c]|d", 300_000),
  ])
  func patternsThatTryTooManyWaysAreStopped(pattern: String, count: Int) {
    let error = #expect(throws: Refusal.self) {
      try pieces(of: String(repeating: "a", count: count) + "d", split: split(pattern)).count
    }
    #expect(error?.rule == "tokenizer-regex-limit")
  }

  /// What published patterns meet in practice stays far from the limits.
  @Test(arguments: [" ", "\n", "a", "1", "\u{4E2D}", "!", " \n", "a1"])
  func longRunsAreSplit(unit: String) throws {
    let patterns = [
      #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#,
      #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#,
    ]
    let text = String(repeating: unit, count: 20_000) + "x"
    for pattern in patterns {
      #expect(try pieces(of: text, split: split(pattern, "Isolated")).joined() == text)
    }
  }

  /// Letters, digits and marks of Unicode 15 and 16, whatever version the library knows.
  @Test func newCharactersHaveTheirCategories() throws {
    let text = "a\u{1C89}\u{31350}\u{1E030}.\u{1E5F1}.\u{11F02}."
    // A mark after a full stop is one character with it to Swift.
    let expected = ["a\u{1C89}\u{31350}\u{1E030}", "\u{1E5F1}", "\u{11F02}"]
    #expect(try pieces(of: text, split: split("[^\\p{L}\\p{N}\\p{M}]", "Removed")) == expected)
  }
}
