import Foundation
import OTCheckpoint
import OTFoundation
import OTJSON
import OTTensor
import Testing
import _OTTestSupport

/// `eval`, as a user runs it.
@Suite struct EvaluationTests {
  private static let model = Fixtures.path("models/opt-mini")
  private static let goldens = model + "/goldens.safetensors"

  private static func write(_ ids: [Int64], name: String, shape: [Int], to path: String) throws {
    var writer = try SafetensorsWriter(
      path: path,
      entries: [.init(name: name, elementType: .i64, shape: try #require(Shape(shape)))])
    try ids.withUnsafeBytes { try writer.append($0) }
    try writer.commit()
  }

  private static func packed(_ folder: String, _ options: String...) throws -> String {
    let path = folder + "/model.otq"
    let tool = Tool.process([model, path, "--quiet", "--no-calibration"] + options)
    #expect(try Tool.finish(tool).status == 0)
    return path
  }

  @Test func perplexityOfTheFixture() throws {
    try withTemporaryFolder { folder in
      let file = try Self.packed(folder, "--embedding-bits", "16")
      let outcome = try Tool.run(
        "eval", file, "--ids", Self.goldens, "--tensor", "test_ids", "--context", "128",
        "--windows", "4", "--against", Self.model, "--json")
      #expect(outcome.status == 0, "\(outcome.errors)")
      let json = try JSONValue.parse(outcome.output)
      let other = try Tool.run(
        "eval", Self.model, "--ids", Self.goldens, "--tensor", "test_ids", "--context", "128",
        "--windows", "4", "--json")
      let reference = try #require(JSONValue.parse(other.output)["perplexity"]?.double)
      let perplexity = try #require(json["perplexity"]?.double)
      let against = try #require(json["against"])
      #expect(json["tokenCount"]?.integer == 512)
      #expect(json["predictedTokenCount"]?.integer == 508)
      #expect(against["perplexity"]?.double == reference)
      let ratio = try #require(against["perplexityRatio"]?.double)
      #expect(abs(ratio - perplexity / reference) < 1e-9)
      #expect(abs(ratio - 1) < 0.1)
      let agreement = try #require(against["top1Agreement"]?.double)
      #expect((0.8...1).contains(agreement))
    }
  }

  /// Parts put together, in any order, are the report of one machine but for its speed.
  @Test(arguments: [1, 2, 3]) func partsAreThoseOfOneMachine(_ count: Int) throws {
    try withTemporaryFolder { folder in
      let file = try Self.packed(folder)
      let options = [
        "eval", file, "--ids", Self.goldens, "--tensor", "test_ids", "--context", "64", "--against", Self.model,
      ]
      func json(_ arguments: [String]) throws -> JSONObject {
        let outcome = try Tool.finish(Tool.process(arguments + ["--json"]))
        #expect(outcome.status == 0, "\(outcome.errors)")
        var json = try #require(try JSONValue.parse(outcome.output).object)
        (json["seconds"], json["tokensPerSecond"]) = (nil, nil)
        return json
      }
      let one = try json(options + ["--windows", "5"])
      let record = folder + "/eval.json"
      for part in 1...count {
        _ = try json(options + ["--windows", "5", "-o", record, "--part", "\(part)", "--of", "\(count)"])
      }
      let parts = (1...count).reversed().map { record + ".part-\($0)" }
      #expect(try json(["eval", "--merge"] + parts) == one)
      func refused(_ rule: String, _ files: [String]) throws {
        let outcome = try Tool.finish(Tool.process(["eval", "--merge"] + files))
        #expect(outcome.status == 1 && outcome.errors.contains("[\(rule)]"), "\(outcome.errors)")
      }
      try refused("merge-part", parts + [parts[0]])
      try refused("evaluation-part", [Self.model + "/config.json"])
      guard count > 1 else { return }
      try refused("merge-part-missing", Array(parts.dropFirst()))
      // Of other windows.
      _ = try json(options + ["--windows", "6", "-o", record, "--part", "1", "--of", "\(count)", "--force"])
      try refused("merge-other-plan", parts)
      for wrong in [["--of", "2"], ["-o", record], ["--part", "1", "-o", record]] {
        #expect(try Tool.finish(Tool.process(options + wrong)).status == 64)
      }
    }
  }

  /// Texts under another name are the same texts, for calibrating and for measuring.
  @Test func textsUnderAnotherField() throws {
    try withTemporaryFolder { folder in
      let sentences = try String(contentsOfFile: Fixtures.path("tasks/sentences.txt"), encoding: .utf8)
      let texts = sentences.split(separator: "\n").map(String.init)
      func lines(_ field: String) -> String {
        texts.map { JSONValue.object([field: .string($0)]).text(pretty: false) + "\n" }.joined()
      }
      let (first, second) = (folder + "/a.jsonl", folder + "/b.jsonl")
      try lines("text").write(toFile: first, atomically: true, encoding: .utf8)
      try lines("content").write(toFile: second, atomically: true, encoding: .utf8)
      func perplexity(_ text: String, _ field: [String]) throws -> Double {
        let file = folder + "/m.otq"
        let text = ["--text", text] + field
        let made = try Tool.finish(Tool.process([Self.model, file, "--quiet", "--force", "--samples", "24"] + text))
        #expect(made.status == 0, "\(made.errors)")
        let outcome = try Tool.finish(Tool.process(["eval", file, "--json"] + text))
        #expect(outcome.status == 0, "\(outcome.errors)")
        return try #require(JSONValue.parse(outcome.output)["perplexity"]?.double)
      }
      #expect(try perplexity(first, []) == perplexity(second, ["--text-field", "content"]))
      #expect(try Tool.run("inspect", folder + "/m.otq", "--json").output.contains("b.jsonl, field 'content'"))
      let gated = try Tool.run(
        Self.model, folder + "/g.otq", "--quiet", "--effort", "fast", "--text-field", "content", "--require", "kl<=10",
        "--require-text", second)
      #expect(gated.status == 0, "\(gated.errors)")
      let missing = try Tool.run("eval", Self.model, "--text", second)
      #expect(missing.status == 1 && missing.errors.contains("[text-field]"))
      #expect(missing.errors.contains("--text-field: content"))
    }
  }

  @Test func attentionMayBeQuantized() throws {
    try withTemporaryFolder { folder in
      let file = try Self.packed(folder)
      func perplexity(_ options: String...) throws -> Double {
        let arguments = [
          "eval", file, "--ids", Self.goldens, "--tensor", "test_ids", "--context", "128", "--windows", "2", "--json",
        ]
        let outcome = try Tool.finish(Tool.process(arguments + options))
        return try #require(JSONValue.parse(outcome.output)["perplexity"]?.double)
      }
      let float = try perplexity()
      let eight = try perplexity("--quantize-attention", "8")
      #expect(float != eight && abs(eight / float - 1) < 0.02, "\(float) \(eight)")
      let checkpoint = try Tool.run("eval", Self.model, "--ids", Self.goldens, "--quantize-attention", "8")
      #expect(checkpoint.status == 1 && checkpoint.errors.contains("[run-attention]"), "\(checkpoint.errors)")
      #expect(try Tool.run("eval", file, "--ids", Self.goldens, "--quantize-attention", "9").status == 64)
    }
  }

  @Test func logitsAreWrittenOnce() throws {
    try withTemporaryFolder { folder in
      let file = try Self.packed(folder)
      let path = folder + "/logits.safetensors"
      let arguments = ["eval", file, "--ids", Self.goldens, "--logits-out", path]
      #expect(try Tool.finish(Tool.process(arguments)).status == 0)
      let written = try SafetensorsFile(mapping: MappedFile(path: path)).tensors
      #expect(written.map(\.name) == ["logits"])
      #expect(written.first?.shape.dimensions == [2, 96, 2048])
      #expect(written.first?.elementType == .f32)
      let before = try contents(path)
      let again = try Tool.finish(Tool.process(arguments))
      #expect(again.status == 1 && again.errors.contains("output-exists"))
      let scalar = Tool.process(
        arguments + ["--force", "--threads", "1"], environment: ["OTQ_ISA": "scalar"])
      #expect(try Tool.finish(scalar).status == 0)
      #expect(try contents(path) == before)
    }
  }

  struct BadInput: Sendable, CustomStringConvertible {
    let description: String
    let ids: [Int64]
    var name = "input_ids"
    let shape: [Int]
  }

  static let refusals = [
    BadInput(description: "ids-token", ids: [1, 2, 3, 2048], shape: [2, 2]),
    BadInput(description: "ids-token", ids: [1, -1], shape: [1, 2]),
    BadInput(description: "ids-empty", ids: [], shape: [0, 4]),
    BadInput(description: "ids-empty", ids: [], name: "test_ids", shape: [0]),
    BadInput(
      description: "ids-context", ids: [Int64](repeating: 1, count: 257), shape: [1, 257]),
    BadInput(description: "ids-shape", ids: [1, 2], shape: [1, 1, 2]),
    BadInput(description: "ids-missing", ids: [1, 2], name: "tokens", shape: [1, 2]),
  ]

  @Test(arguments: refusals) func badTokensGiveOneLine(_ test: BadInput) throws {
    try withTemporaryFolder { folder in
      let ids = folder + "/ids.safetensors"
      try Self.write(test.ids, name: test.name, shape: test.shape, to: ids)
      let out = folder + "/logits.safetensors"
      let outcome = try Tool.run("eval", Self.model, "--ids", ids, "--logits-out", out)
      #expect(outcome.status == 1)
      #expect(outcome.output.isEmpty)
      #expect(outcome.errorLines.count == 1)
      #expect(outcome.errors.contains("[\(test.description)]"))
      #expect(!FileManager.default.fileExists(atPath: out))
    }
  }

  /// Windows that are given are not cut into others, nor is it passed over that others are asked for.
  @Test func windowsOfAMatrixHaveTheirOwnLength() throws {
    try withTemporaryFolder { folder in
      let ids = folder + "/ids.safetensors"
      try Self.write([Int64](repeating: 1, count: 16), name: "input_ids", shape: [2, 8], to: ids)
      for context in ["4", "16"] {
        for arguments in [
          ["eval", Self.model, "--ids", ids, "--context", context],
          ["calibrate", Self.model, "--ids", ids, "--length", context, "-o", folder + "/s"],
        ] {
          let outcome = try Tool.finish(Tool.process(arguments))
          #expect(outcome.status == 1 && outcome.errors.contains("[ids-context]"), "\(outcome)")
          #expect(outcome.errors.contains("leave out \(arguments[4])"), "\(outcome.errors)")
        }
      }
      #expect(try Tool.run("eval", Self.model, "--ids", ids, "--context", "8").status == 0)
    }
  }

  @Test func contextBeyondTheModels() throws {
    let outcome = try Tool.run(
      "eval", Self.model, "--ids", Self.goldens, "--tensor", "test_ids", "--context", "257")
    #expect(outcome.status == 1 && outcome.errors.contains("[ids-context]"))
  }
}
