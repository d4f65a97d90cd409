import Foundation
import OTJSON
import Testing
import _OTTestSupport

/// That `otbench accuracy` measures what it says.
@Suite struct AccuracyBenchmarkTests {
  private static func run(_ arguments: [String]) throws -> JSONValue {
    let process = Process()
    process.executableURL = Tool.folder.appendingPathComponent("otbench")
    process.arguments = ["accuracy"] + arguments + ["--json"]
    let outcome = try Tool.finish(process)
    #expect(outcome.status == 0, "\(outcome.errors)")
    return try JSONValue.parse(outcome.output)
  }

  @Test func aFixtureStandsBesideItsSimulation() throws {
    let json = try Self.run([Fixtures.path("models/opt-mini"), "--windows", "40"])
    let schemes = try #require(json["schemes"]?.array)
    #expect(schemes.count == 14)
    var comparedCount = 0
    for scheme in schemes {
      let perplexity = try #require(scheme["perplexity"]?.double)
      guard let simulated = scheme["simulatedPerplexity"]?.double else { continue }
      comparedCount += 1
      #expect(abs(perplexity / simulated - 1) < 5e-3, "\(scheme)")
    }
    #expect(comparedCount == 6)
  }

  /// Schemes of one's own have what their methods need, groups and all.
  @Test func schemesCanBeChosen() throws {
    let json = try Self.run([
      Fixtures.path("models/opt-mini"), "--windows", "2", "--scheme", "w8a8,percentile,p=0.9999", "--scheme",
      "w6a16/g32,weights-only",
    ])
    let schemes = try #require(json["schemes"]?.array)
    #expect(schemes.map { $0["scheme"]?.string } == ["W8A8", "W6A16/g32"])
    #expect(schemes.allSatisfy { ($0["klMean"]?.double ?? 9) < 0.1 && $0["klMean"]?.double != 0 })
  }

  @Test func wikiTextIsSpelledAsElsewhere() throws {
    try withTemporaryFolder { folder in
      let (marked, plain) = (folder + "/a.txt", folder + "/b.txt")
      let line = "The <unk> was a two @-@ part episode of the long series of the king . And God saw the light .\n"
      try String(repeating: line, count: 20).write(toFile: marked, atomically: true, encoding: .utf8)
      try String(repeating: line, count: 20).replacingOccurrences(of: "<unk>", with: "unk")
        .replacingOccurrences(of: " @-@ ", with: "-").write(toFile: plain, atomically: true, encoding: .utf8)
      func perplexity(_ path: String, _ flags: [String]) throws -> Double {
        let options = ["--samples", "4", "--windows", "1", "--context", "32", "--text", path, "--calibration", path]
        let json = try Self.run([Fixtures.path("models/llama-mini")] + options + flags)
        return try #require(json["float"]?["perplexity"]?.double)
      }
      let expected = try perplexity(plain, [])
      #expect(abs(try perplexity(marked, ["--wikitext"]) / expected - 1) < 1e-6)
      #expect(abs(try perplexity(marked, []) / expected - 1) > 1e-3)
    }
  }

  @Test func sentencesHaveCosines() throws {
    try withTemporaryFolder { folder in
      let path = folder + "/a.txt"
      let text =
        " = Heading of some length here = \nIn the beginning God created the heaven . "
        + "And the earth was without form . Too short .\n"
      try text.write(toFile: path, atomically: true, encoding: .utf8)
      let json = try Self.run([
        Fixtures.path("models/bert-mini"), "--text", path, "--samples", "8", "--context", "32",
      ])
      #expect(json["sentences"]?.integer == 2)
      let schemes = try #require(json["schemes"]?.array)
      #expect(schemes.count == 9)
      for scheme in schemes {
        let (mean, minimum) = (scheme["cosineMean"]?.double ?? 0, scheme["cosineMinimum"]?.double ?? 0)
        #expect(minimum <= mean && mean <= 1 + 1e-6 && minimum > 0.8, "\(scheme)")
      }
    }
  }
}
