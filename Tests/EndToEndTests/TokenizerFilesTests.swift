import Foundation
import OTFoundation
import OTJSON
import Testing
import _OTTestSupport

/// Models with older files of a tokenizer, and `tokenize`, as a user runs them.
@Suite struct TokenizerFilesTests {
  private static let model = Fixtures.path("models/opt-mini")

  /// The model with `vocab.json` and `merges.txt` instead of its tokenizer.json.
  private static func olderModel(in folder: String) throws -> String {
    let target = folder + "/older"
    try FileManager.default.createDirectory(atPath: target, withIntermediateDirectories: true)
    for file in ["model.safetensors", "config.json"] {
      try FileManager.default.copyItem(atPath: "\(model)/\(file)", toPath: "\(target)/\(file)")
    }
    let json = try JSONValue.parse(contentsOf: try MappedFile(path: model + "/tokenizer.json"))
    let merges = try #require(json["model"]?["merges"]?.array).compactMap { merge in
      merge.string ?? merge.array?.compactMap(\.string).joined(separator: " ")
    }
    try #require(json["model"]?["vocab"]).text().write(
      toFile: target + "/vocab.json", atomically: true, encoding: .utf8)
    try ("#version: 0.2\n" + merges.joined(separator: "\n") + "\n").write(
      toFile: target + "/merges.txt", atomically: true, encoding: .utf8)
    try #"{"tokenizer_class":"GPT2Tokenizer","bos_token":"</s>","eos_token":"</s>","unk_token":"<unk>"}"#.write(
      toFile: target + "/tokenizer_config.json", atomically: true, encoding: .utf8)
    return target
  }

  @Test func aModelWithOlderFilesIsCalibratedAndRuns() throws {
    try withTemporaryFolder { folder in
      let older = try Self.olderModel(in: folder)
      var tokens: [String] = []
      var texts: [String] = []
      for (name, source) in [("a", Self.model), ("b", older)] {
        let file = "\(folder)/\(name).otq"
        let outcome = try Tool.run("convert", source, file, "--bits", "6")
        #expect(outcome.status == 0 && outcome.errors.contains("calibrating on"), "\(outcome.errors)")
        // The packed file needs nothing beside it.
        tokens.append(try Tool.run("tokenize", file, "--text", "And God said, é \u{1F600}", "--ids").output)
        texts.append(try Tool.run("run", file, "--prompt", "In the beginning", "--max-tokens", "8", "--quiet").output)
      }
      #expect(tokens[0] == tokens[1] && texts[0] == texts[1] && !texts[0].isEmpty)
    }
  }

  @Test func tokenizePrintsIDsAndPieces() throws {
    let arguments = ["tokenize", Self.model, "--text", "And God\n"]
    let lines = try Tool.finish(Tool.process(arguments)).output.split(separator: "\n").map { $0.split(separator: "\t") }
    let json = try JSONValue.parse(try Tool.finish(Tool.process(arguments + ["--json"])).output)
    let ids = try Tool.finish(Tool.process(arguments + ["--ids", "--no-special-tokens"])).output
    let tokens = try #require(json["tokens"]?.array)
    #expect(lines.map { String($0[0]) } == tokens.compactMap { $0["id"]?.integer.map(String.init) })
    #expect(lines.map { String($0[1]) } == tokens.compactMap { $0["piece"]?.string })
    #expect(ids == lines.map { String($0[0]) }.joined(separator: " ") + "\n")
    #expect(json["text"]?.string == "And God\n" && json["tokenCount"]?.integer == tokens.count)
    #expect(lines.last?[1] == "\u{10A}")
  }

  @Test(arguments: [
    ["tokenize", "m"], ["tokenize", "m", "--text", "a", "--text-file", "b"],
    ["tokenize", "m", "--text", "a", "--ids", "--json"],
  ])
  func wrongUsage(arguments: [String]) throws {
    #expect(try Tool.finish(Tool.process(arguments)).status == 64)
  }
}
