import Foundation
import OTJSON
import OTKernels
import OTModel
import OTTensor
import Testing
import _OTModelSupport
import _OTTestSupport

/// `--require` and `--until` as a user gives them.
@Suite struct GateTests {
  private static let model = Fixtures.path("models/llama-mini")
  private static let short = ["--samples", "8", "--length", "64"]

  private func convert(_ output: String, _ options: String...) throws -> Tool.Outcome {
    try Tool.finish(Tool.process([Self.model, output] + Self.short + options))
  }

  private func codes(_ path: String) throws -> [[UInt8]] {
    let file = try PackedModel(path: path).container
    return try file.tensors.filter { $0.scheme != nil }.map { tensor in
      let layout = TileLayout(rowCount: tensor.shape.rowCount, columnCount: tensor.shape.rowElementCount)
      return try file.codes(of: tensor, rowTiles: 0..<layout.rowTileCount)
    }
  }

  @Test func aFileThatFailsDoesNotAppear() throws {
    try withTemporaryFolder { folder in
      let file = folder + "/m.otq"
      let failed = try convert(file, "--bits", "4", "--require", "kl<=1e-9", "--require", "agreement>=0.01")
      #expect(failed.status == 1 && failed.errors.contains("[require-failed]"), "\(failed.errors)")
      #expect(failed.errors.contains("kl<=1e-9: 0.0") && failed.errors.contains("it holds agreement>=0.01: 0."))
      #expect(failed.errors.contains("--bits 5") && failed.errors.contains("--group-size 64"))
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
      // One that was there stays.
      try Data("old".utf8).write(to: URL(fileURLWithPath: file))
      #expect(try convert(file, "--bits", "4", "--require", "kl<=1e-9", "--force", "--quiet").status == 1)
      #expect(try String(contentsOfFile: file, encoding: .utf8) == "old")
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["m.otq"])
    }
  }

  /// The same tensors as without requirements, and the figures that `eval` gives.
  @Test func whatHoldsIsRecorded() throws {
    try withTemporaryFolder { folder in
      let (file, plain, text) = (folder + "/m.otq", folder + "/p.otq", folder + "/t.txt")
      let words = (0..<3000).map { "word\($0 * 7919 % 613)" }.joined(separator: " ")
      try Data(words.utf8).write(to: URL(fileURLWithPath: text))
      let held = try convert(
        file, "--bits", "5", "--require", "kl<=10", "--require", "perplexity-ratio<=10", "--require-text", text,
        "--require-windows", "3", "--json", "--quiet")
      #expect(held.status == 0 && held.errors.isEmpty, "\(held.errors)")
      #expect(try convert(plain, "--bits", "5", "--quiet").status == 0)
      #expect(try codes(file) == codes(plain))
      #expect(try Tool.run("verify", file, "--reference", Self.model, "--level", "weights", "--quiet").status == 0)
      let evaluated = try JSONValue.parse(
        Tool.run("eval", file, "--text", text, "--windows", "3", "--against", Self.model, "--json").output)
      let record = try #require(JSONValue.parse(Tool.run("inspect", file, "--json").output)["requirements"])
      let measured = try #require(record["measured"]?.array)
      #expect(measured.map { $0["requirement"]?.string } == ["kl<=10", "perplexity-ratio<=10"])
      #expect(measured.allSatisfy { $0["holds"]?.bool == true })
      let expected = try [
        #require(evaluated["against"]?["klMean"]?.double), #require(evaluated["against"]?["perplexityRatio"]?.double),
      ]
      for (entry, expected) in zip(measured, expected) {
        let value = try #require(entry["value"]?.double)
        #expect(abs(value - expected) <= 1e-9 * max(1, abs(expected)))
      }
      #expect(record["text"]?["samples"]?.integer == 3)
      #expect(record["text"]?["texts"]?.array?.first?["name"]?.string == "t.txt")
      #expect(try JSONValue.parse(held.output)["requirements"] == record)
      let shown = try Tool.run("inspect", file).output
      #expect(shown.contains("held before it was written: kl<=10: 0."))
    }
  }

  @Test func theSmallestFileIsFound() throws {
    try withTemporaryFolder { folder in
      let (first, second) = (folder + "/a.otq", folder + "/b.otq")
      let any = try convert(first, "--until", "kl<=10")
      #expect(any.status == 0 && any.output.contains("--bits 4: best"), "\(any.errors)")
      #expect(!any.output.contains("tried"))
      let near = try convert(second, "--until", "kl<=0.0015", "--until", "agreement>=0.5")
      #expect(near.status == 0, "\(near.errors)")
      let record = try #require(JSONValue.parse(Tool.run("inspect", second, "--json").output)["requirements"])
      let tried = try #require(record["tried"]?.array)
      #expect(tried.first?["settings"]?.string == "--bits 4" && tried.count > 2)
      for entry in tried {
        let held = (entry["measured"]?.array ?? []).map { $0["holds"]?.bool }
        #expect(held.contains(false))
        #expect(near.errors.contains(entry["settings"]?.string ?? "-"))
      }
      // The search is no other conversion than that of the options it found.
      let options = try #require(near.output.split(separator: "\n").dropFirst().first?.split(separator: ":").first)
      let same = folder + "/c.otq"
      let direct = try Tool.finish(
        Tool.process([Self.model, same, "--quiet"] + Self.short + options.split(separator: " ").map(String.init)))
      #expect(direct.status == 0, "\(direct.errors)")
      #expect(try codes(second) == codes(same))
      let none = try convert(folder + "/d.otq", "--until", "kl<=1e-12", "--effort", "fast")
      #expect(none.status == 1 && none.errors.contains("no file holds what is required"), "\(none.errors)")
      #expect(!FileManager.default.fileExists(atPath: folder + "/d.otq"))
    }
  }

  /// The figures of a task are those that `eval --task` gives, of the file and of its source.
  @Test func tasksAreHeldAgainstTheSource() throws {
    try withTemporaryFolder { folder in
      let (file, questions) = (folder + "/m.otq", folder + "/q.jsonl")
      let lines = (0..<12).map { index in
        #"{"context": "Number \#(index) is", "choices": ["even", "odd", "neither"], "answer": \#(index % 3)}"#
      }
      try Data(lines.joined(separator: "\n").utf8).write(to: URL(fileURLWithPath: questions))
      let held = try convert(
        file, "--bits", "4", "--effort", "fast", "--require", "accuracy-drop(\(questions))<=100", "--require",
        "accuracy(multiple_choice=\(questions))>=0", "--quiet")
      #expect(held.status == 0, "\(held.errors)")
      func accuracy(_ model: String) throws -> Double {
        let outcome = try Tool.run("eval", model, "--task", "multiple_choice", "--data", questions, "--json")
        let figures = try #require(JSONValue.parse(outcome.output)["figures"]?.object)
        return try #require(figures["acc"]?["value"]?.double)
      }
      let (own, reference) = (try accuracy(file), try accuracy(Self.model))
      let record = try JSONValue.parse(Tool.run("inspect", file, "--json").output)["requirements"]
      let measured = try #require(record?["measured"]?.array)
      #expect(measured[0]["value"]?.double == (reference - own) * 100)
      #expect(measured[0]["reference"]?.double == reference && measured[1]["value"]?.double == own)
      let failed = try convert(
        folder + "/n.otq", "--effort", "fast", "--require", "accuracy(\(questions))>=1.01", "--quiet")
      #expect(failed.status == 1 && failed.errors.contains("[require-failed]"), "\(failed.errors)")
    }
  }

  /// Text that comes through a pipe is read once, for samples and for its record.
  @Test func textMayComeThroughAPipe() throws {
    try withTemporaryFolder { folder in
      let (file, text) = (folder + "/m.otq", folder + "/t.txt")
      let words = (0..<4000).map { "word\($0 * 7919 % 613)" }.joined(separator: " ")
      try Data(words.utf8).write(to: URL(fileURLWithPath: text))
      let options = "--samples 4 --length 64 --quiet"
      for line in [
        "cat \(text) | \"$OTCONVERT\" convert \(Self.model) \(file) --text - \(options)",
        "cat \(text) | \"$OTCONVERT\" calibrate \(Self.model) --text - -o \(folder)/s \(options)",
        "cat \(text) | \"$OTCONVERT\" convert \(Self.model) \(folder)/n.otq --require 'kl<=9' --require-text - \(options)",
      ] {
        let outcome = try Tool.shell(line)
        #expect(outcome.status == 0, "\(outcome.errors)")
      }
      let method = try JSONValue.parse(Tool.run("inspect", file, "--json").output)["method"]
      let record = try #require(method?["calibration"]?["runs"]?.array?.first?["texts"]?.array?.first)
      #expect(record["byteCount"]?.integer == words.utf8.count)
    }
  }

  /// What cannot be kept or read is refused before a file appears, and before anything is calibrated.
  @Test func whatIsWrongIsFoundFirst() throws {
    try withTemporaryFolder { folder in
      let weights = Fixtures.path("pytorch/training_checkpoint_pt.expected.safetensors")
      let kept = try Tool.run(weights, folder + "/u.otq", "--weights-only", "--save-recipe", folder + "/r")
      #expect(kept.status == 1 && kept.errors.contains("[recipe-no-graph]"), "\(kept.errors)")
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
      let missing = try convert(folder + "/m.otq", "--require", "kl<=1", "--require-text", "/none.txt")
      #expect(missing.status == 1 && !missing.errors.contains("calibrating"), "\(missing.errors)")
      let bare = folder + "/bare"
      try FileManager.default.createDirectory(atPath: bare, withIntermediateDirectories: true)
      for name in ["config.json", "model.safetensors"] {
        try FileManager.default.copyItem(atPath: Self.model + "/" + name, toPath: bare + "/" + name)
      }
      try Data("text".utf8).write(to: URL(fileURLWithPath: folder + "/t.txt"))
      let deaf = try Tool.run(
        bare, folder + "/m.otq", "--effort", "fast", "--require", "kl<=1", "--require-text", folder + "/t.txt")
      #expect(deaf.status == 1 && deaf.errors.contains("[tokenizer-missing]"), "\(deaf.errors)")
    }
  }

  @Test(arguments: [
    ["--require", "kl>=1"], ["--require", "kl<=1", "--until", "kl<=1"], ["--until", "kl<=1", "--bits", "6"],
    ["--until", "kl<=1", "--budget", "5bpw"], ["--require-text", "a.txt"],
    ["--require", "kl<=1", "--require-text", "a.txt", "--require-ids", "b.safetensors"],
    ["--require", "kl<=1", "--require-windows", "0"],
  ])
  func wrongUsage(_ options: [String]) throws {
    let outcome = try Tool.finish(Tool.process([Self.model, "/nowhere/m.otq"] + options))
    #expect(outcome.status == 64, "\(outcome.errors)")
  }

  /// What cannot be measured is refused, and nothing is written.
  @Test(arguments: [
    (["--require", "cosine>=0.5"], "[require-figure]"),
    (["--require", "kl<=1", "--require-text", "/none.txt"], "[file-"),
    (["--require", "accuracy(/none.jsonl)>=0"], "[file-"),
  ])
  func whatCannotBeMeasured(_ options: [String], _ rule: String) throws {
    try withTemporaryFolder { folder in
      let outcome = try Tool.finish(Tool.process([Self.model, folder + "/m.otq"] + Self.short + options))
      #expect(outcome.status == 1 && outcome.errors.contains(rule), "\(outcome.errors)")
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
    }
  }
}
