import Foundation
import OTFoundation
import OTText
import OTTokenizer
import Testing
import _OTTestSupport

@Suite struct TokenSamplingTests {
  private static func tokenizer(_ name: String) throws -> Tokenizer {
    let path = name.hasSuffix("-mini") ? "models/\(name)/tokenizer.json" : "tokenizers/\(name).json"
    return try Tokenizer(path: Fixtures.path(path))
  }

  /// Words that a reader can tell apart: every sample shows where it was taken.
  private static func numbers(_ range: Range<Int>) -> String { range.map { "number \($0)\n" }.joined() }

  @Test func windowsAreConsecutive() throws {
    let tokenizer = try Self.tokenizer("opt-mini")
    let text = Self.numbers(0..<2000)
    let tokens = try tokenizer.encode(text, addSpecialTokens: true)
    try withTemporaryFolder { folder in
      let path = folder + "/a.txt"
      try write(text.utf8, to: path)
      let all = try TokenSampling.windows(of: [path], tokenizer: tokenizer, length: 64, limit: nil)
      #expect(all.count == tokens.count / 64)
      #expect(all.joined().elementsEqual(tokens.prefix(all.count * 64)))
      let some = try TokenSampling.windows(of: [path], tokenizer: tokenizer, length: 64, limit: 3)
      #expect(some == Array(all.prefix(3)))
      let whole = try TokenSampling.windows(of: [path], tokenizer: tokenizer, length: 1 << 20, limit: nil)
      #expect(whole == [tokens])
    }
  }

  @Test func documentsAreSeparated() throws {
    let tokenizer = try Self.tokenizer("opt")
    let end = try #require(tokenizer.id(of: "</s>"))
    let lines = "{\"text\":\"One two.\"}\n{\"text\":\"Three.\"}\n"
    let expected =
      try tokenizer.encode("One two.", addSpecialTokens: true) + [end]
      + tokenizer.encode("Three.", addSpecialTokens: false)
    try withTemporaryFolder { folder in
      try write(lines.utf8, to: folder + "/a.jsonl")
      let windows = try TokenSampling.windows(of: [folder + "/a.jsonl"], tokenizer: tokenizer, length: 999, limit: nil)
      #expect(windows == [expected])
    }
  }

  @Test func samplesAreDrawnBySeed() throws {
    let tokenizer = try Self.tokenizer("opt-mini")
    let text = Self.numbers(0..<5000)
    let tokens = try tokenizer.encode(text, addSpecialTokens: false)
    try withTemporaryFolder { folder in
      let path = folder + "/a.txt"
      try write(text.utf8, to: path)
      func samples(_ seed: UInt64, count: Int = 10) throws -> [[Int]] {
        try TokenSampling.samples(of: [path], tokenizer: tokenizer, count: count, length: 50, seed: seed)
      }
      let one = try samples(1)
      #expect(one.count == 10 && one.allSatisfy { $0.count == 50 })
      #expect(try samples(1) == one)
      #expect(try samples(2) != one)
      // Parts of the text, in its order, that do not overlap.
      var position = 0
      for sample in one {
        while position + 50 <= tokens.count, !tokens[position..<position + 50].elementsEqual(sample) { position += 1 }
        #expect(position + 50 <= tokens.count)
        position += 50
      }
      // Fewer where there are no more, and then nearly the whole text.
      let all = try samples(3, count: 1 << 20)
      #expect(all.count == tokens.count / 50)
    }
  }

  @Test func aShortTextGivesAShorterSample() throws {
    let tokenizer = try Self.tokenizer("opt-mini")
    try withTemporaryFolder { folder in
      try write("In the beginning".utf8, to: folder + "/a.txt")
      let samples = try TokenSampling.samples(
        of: [folder + "/a.txt"], tokenizer: tokenizer, count: 8, length: 512, seed: 0)
      #expect(samples == [try tokenizer.encode("In the beginning", addSpecialTokens: false)])
    }
  }

  @Test func samplesHaveTheModelsSpecialTokens() throws {
    let tokenizer = try Self.tokenizer("bert")
    let start = try #require(tokenizer.id(of: "[CLS]"))
    let end = try #require(tokenizer.id(of: "[SEP]"))
    try withTemporaryFolder { folder in
      try write(Self.numbers(0..<500).utf8, to: folder + "/a.txt")
      let samples = try TokenSampling.samples(
        of: [folder + "/a.txt"], tokenizer: tokenizer, count: 5, length: 32, seed: 0)
      #expect(samples.count == 5)
      #expect(samples.allSatisfy { $0.count == 32 && $0.first == start && $0.last == end })
      #expect(samples.allSatisfy { !$0.dropFirst().dropLast().contains { $0 == start || $0 == end } })
    }
  }

  /// A text far larger than what is tokenized of it: samples come from all over it.
  @Test(arguments: ["a.txt", "a.jsonl", "a.jsonl.zst"]) func largeTextsAreSampledAllOver(_ name: String) throws {
    let tokenizer = try Self.tokenizer("opt-mini")
    try withTemporaryFolder { folder in
      let path = folder + "/" + name
      let lineCount = 40_000
      let filler = String(repeating: "and so on ", count: 8)
      let lines = (0..<lineCount).map { name == "a.txt" ? "\($0) \(filler)\n" : "{\"text\":\"\($0) \(filler)\"}\n" }
      let bytes = Array(lines.joined().utf8)
      try write(name.hasSuffix(".zst") ? zstd(bytes) : bytes, to: path)
      let samples = try TokenSampling.samples(of: [path], tokenizer: tokenizer, count: 32, length: 64, seed: 5)
      #expect(samples.count == 32)
      let numbers = samples.flatMap {
        tokenizer.decode($0, skipSpecialTokens: true).split(whereSeparator: \.isWhitespace)
      }
      .compactMap { Int($0) }.filter { $0 > 999 }
      #expect((numbers.min() ?? .max) < lineCount / 2)
      #expect((numbers.max() ?? 0) > lineCount / 2)
    }
  }

  @Test(arguments: ["", "\n \n", "{\"text\":\"\"}\n"]) func textsWithoutTokensAreRefused(_ text: String) throws {
    let tokenizer = try Self.tokenizer("opt")
    try withTemporaryFolder { folder in
      let path = folder + (text.hasPrefix("{") || text.hasPrefix("\n") ? "/a.jsonl" : "/a.txt")
      try write(text.utf8, to: path)
      for call in [
        { try TokenSampling.windows(of: [path], tokenizer: tokenizer, length: 8, limit: nil) },
        { try TokenSampling.samples(of: [path], tokenizer: tokenizer, count: 8, length: 8, seed: 0) },
      ] {
        let refusal = try #require(throws: Refusal.self) { try call() }
        #expect(refusal.rule == "text-empty")
      }
    }
  }
}
