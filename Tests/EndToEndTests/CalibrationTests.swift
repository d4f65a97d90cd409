import Foundation
import OTCheckpoint
import OTFoundation
import OTJSON
import Testing
import _OTTestSupport

private enum PackedMethod {
  static func name(of path: String) throws -> String? {
    try JSONValue.parse(Tool.run("inspect", path, "--json").output)["method"]?["name"]?.string
  }
}

/// `calibrate`, `convert --statistics`, conversion that calibrates by itself, and `eval --text`, as a user runs them.
@Suite struct CalibrationTests {
  private static let model = Fixtures.path("models/opt-mini")
  private static let text = "In the beginning God created the heaven and the earth. And the earth was without form.\n"

  /// Text of a few hundred tokens.
  private static func writeText(_ folder: String, _ repetitions: Int = 30) throws -> String {
    let path = folder + "/text.txt"
    let lines = (0..<repetitions).map { "\($0) \(text)" }.joined()
    try lines.write(toFile: path, atomically: true, encoding: .utf8)
    return path
  }

  /// A copy of a model's folder, with another tokenizer if named.
  private static func copy(_ name: String, to folder: String, tokenizer: String? = nil) throws -> String {
    let target = folder + "/" + name
    try FileManager.default.createDirectory(atPath: target, withIntermediateDirectories: true)
    for file in ["model.safetensors", "config.json"] {
      try FileManager.default.copyItem(atPath: Fixtures.path("models/\(name)/\(file)"), toPath: target + "/" + file)
    }
    try FileManager.default.copyItem(
      atPath: tokenizer ?? Fixtures.path("models/\(name)/tokenizer.json"), toPath: target + "/tokenizer.json")
    return target
  }

  /// Parts of a calibration, put together in any order, are the bytes that one machine writes.
  @Test(arguments: [("opt-mini", 1), ("opt-mini", 3), ("llama-mini", 4)])
  func partsAreThoseOfOneMachine(_ name: String, _ count: Int) throws {
    try withTemporaryFolder { folder in
      // So much that there are groups of 512 tokens for all parts.
      let text = try Self.writeText(folder, 150)
      func calibrate(_ output: String, _ more: [String], environment: [String: String] = [:]) throws {
        let arguments =
          ["calibrate", Fixtures.path("models/" + name), "--text", text, "--samples", "20", "--length", "96", "-o"]
          + [output] + more
        let outcome = try Tool.finish(Tool.process(arguments, environment: environment))
        #expect(outcome.status == 0, "\(outcome.errors)")
      }
      try calibrate(folder + "/one", [])
      for part in 1...count {
        // As a task of an array job, the last.
        let task = [
          "SLURM_ARRAY_TASK_ID": "\(part - 1)", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "\(count)",
        ]
        try calibrate(
          folder + "/all", ["--of", "\(count)", "--threads", "\(part)"] + (part < count ? ["--part", "\(part)"] : []),
          environment: part < count ? [:] : task)
      }
      let parts = (1...count).reversed().map { folder + "/all.part-\($0)" }
      func merge(_ files: [String]) throws -> Tool.Outcome {
        try Tool.finish(Tool.process(["calibrate", "--merge"] + files + ["-o", folder + "/all", "--force"]))
      }
      let merged = try merge(parts + (count == 1 ? parts : []))
      guard count > 1 else {
        #expect(merged.status == 1 && merged.errors.contains("[merge-part]"), "\(merged.errors)")
        return
      }
      #expect(merged.status == 0, "\(merged.errors)")
      #expect(try contents(folder + "/all") == contents(folder + "/one"))
      let missing = try merge(Array(parts.dropLast()))
      #expect(missing.status == 1 && missing.errors.contains("[merge-part-missing]"), "\(missing.errors)")
      let mixed = try merge(parts + [folder + "/one"])
      #expect(mixed.status == 1 && mixed.errors.contains("[statistics-parts]"), "\(mixed.errors)")
      // A part is no statistics.
      let used = try Tool.run(
        "convert", Fixtures.path("models/" + name), folder + "/m.otq", "--statistics", parts[0])
      #expect(used.status == 1 && used.errors.contains("[statistics-format]"), "\(used.errors)")
    }
  }

  @Test func statisticsOfTheFixtureConvertLikeTheReferencesFiles() throws {
    try withTemporaryFolder { folder in
      let goldens = Self.model + "/goldens.safetensors"
      let statistics = folder + "/s.safetensors"
      let calibrated = try Tool.run(
        "calibrate", Self.model, "--ids", goldens, "--tensor", "calibration_ids", "-o", statistics, "--json")
      #expect(calibrated.status == 0, "\(calibrated.errors)")
      let json = try JSONValue.parse(calibrated.output)
      #expect(json["samples"]?.integer == 32 && json["sites"]?.integer == 16)
      func perplexity(_ name: String, _ options: [String]) throws -> Double {
        let converted = try Tool.finish(Tool.process([Self.model, folder + "/" + name, "--bits", "6"] + options))
        #expect(converted.status == 0 && converted.output.contains("outliertune"), "\(converted.errors)")
        let outcome = try Tool.run(
          "eval", folder + "/" + name, "--ids", goldens, "--tensor", "test_ids", "--context", "128", "--windows", "4",
          "--json")
        return try #require(JSONValue.parse(outcome.output)["perplexity"]?.double)
      }
      let ours = try perplexity("a.otq", ["--statistics", statistics])
      // Tokens serve a conversion as they serve a file of statistics.
      let direct = try perplexity(
        "e.otq", ["--ids", goldens, "--tensor", "calibration_ids", "--method", "outliertune"])
      #expect(abs(direct / ours - 1) < 1e-9)
      let theirs = try perplexity(
        "b.otq",
        [
          "--act-scales", Self.model + "/act_scales_sym.pt", "--symmetrization", Self.model + "/symmetrizations.pt",
          "--symmetrization-samples", "32",
        ])
      #expect(abs(ours / theirs - 1) < 2e-3)
      let without = try perplexity("c.otq", ["--statistics", statistics, "--no-symmetrization"])
      let theirsWithout = try perplexity("d.otq", ["--act-scales", Self.model + "/act_scales.pt"])
      #expect(abs(without / theirsWithout - 1) < 2e-3)
      #expect(try Tool.run("verify", folder + "/a.otq", "--reference", Self.model).status == 0)
    }
  }

  /// Biases are corrected where the integers of 0 are not 0, and verification knows by what.
  @Test(arguments: [[], ["--per-tensor"], ["--group-size", "32"]]) func staticRangesVerify(_ options: [String]) throws {
    try withTemporaryFolder { folder in
      let goldens = Self.model + "/goldens.safetensors"
      let file = folder + "/m.otq"
      let arguments = ["convert", Self.model, file, "--bits", "6", "--method", "minmax", "--ids", goldens]
      let converted = try Tool.finish(Tool.process(arguments + ["--tensor", "calibration_ids"] + options))
      #expect(converted.status == 0, "\(converted.errors)")
      let outcome = try Tool.run("verify", file, "--reference", Self.model)
      #expect(outcome.status == 0, "\(outcome.output)\(outcome.errors)")
    }
  }

  @Test func textCalibratesAndMerges() throws {
    try withTemporaryFolder { folder in
      let text = try Self.writeText(folder)
      let files = ["a", "b", "c", "d"].map { "\(folder)/\($0).safetensors" }
      func calibrate(_ seed: String, _ path: String) throws -> Tool.Outcome {
        try Tool.run(
          "calibrate", Self.model, "--text", text, "--samples", "3", "--length", "32", "--seed", seed, "-o", path)
      }
      for (seed, path) in zip(["1", "1", "2"], files) { #expect(try calibrate(seed, path).status == 0) }
      #expect(try contents(files[0]) == contents(files[1]))
      #expect(try contents(files[0]) != contents(files[2]))
      #expect(try calibrate("1", files[0]).errors.contains("[output-exists]"))
      let twice = try Tool.run("calibrate", "--merge", files[0], files[2], files[1], "-o", files[3])
      #expect(twice.status == 1 && twice.errors.contains("[statistics-twice]"), "\(twice.errors)")
      let merged = try Tool.run("calibrate", "--merge", files[0], files[2], "-o", files[3], "--json")
      #expect(try JSONValue.parse(merged.output)["samples"]?.integer == 6, "\(merged.errors)")
      #expect(try Tool.run(Self.model, folder + "/m.otq", "--statistics", files[3]).status == 0)
      let inspected = try JSONValue.parse(Tool.run("inspect", folder + "/m.otq", "--json").output)
      #expect(inspected["method"]?["calibration"]?["runs"]?.array?.count == 2)
      #expect((inspected["sources"]?.array ?? []).contains { $0["name"]?.string == "d.safetensors" })
    }
  }

  @Test func conversionCalibratesByItself() throws {
    try withTemporaryFolder { folder in
      let text = try Self.writeText(folder)
      func convert(_ name: String, _ options: [String]) throws -> Tool.Outcome {
        try Tool.finish(Tool.process([Self.model, folder + "/" + name, "--bits", "6"] + options))
      }
      let shipped = try convert("a.otq", ["--samples", "2"])
      #expect(shipped.status == 0 && shipped.output.contains("best, calibrated in"), "\(shipped.errors)")
      #expect(shipped.errors.contains("calibrating on 2 samples of 256 tokens of sample.jsonl of otq"))
      #expect(shipped.output.contains("on 4 samples that were held out: KL 0."))
      let json = try JSONValue.parse(try convert("e.otq", ["--samples", "8", "--json", "--quiet"]).output)
      let heldOut = try #require(json["heldOut"])
      // A file that is far from its source says so.
      #expect(heldOut["samples"]?.integer == 4 && (heldOut["klMean"]?.double ?? 1) < 0.05)
      let poor = try convert("f.otq", ["--samples", "8", "--method", "minmax", "--activation-bits", "4"])
      #expect(
        poor.status == 0 && poor.errors.contains("warning: on text that it was not calibrated on"), "\(poor.errors)")
      let given = try convert("b.otq", ["--samples", "4", "--length", "32", "--text", text])
      #expect(given.errors.contains("calibrating on 4 samples of 32 tokens of text.txt"))
      let plain = try convert("c.otq", ["--no-calibration"])
      #expect(plain.output.contains("hadamard") && !plain.errors.contains("calibrating"))
      let weights = try convert("d.otq", ["--weights-only"])
      #expect(weights.output.contains("weights-only") && !weights.errors.contains("calibrating"))
      let inspected = try JSONValue.parse(Tool.run("inspect", folder + "/b.otq", "--json").output)
      let run = inspected["method"]?["calibration"]?["runs"]?.array?.first
      #expect(run?["texts"]?.array?.first?["name"]?.string == "text.txt")
      #expect(try Tool.run("verify", folder + "/b.otq", "--reference", Self.model).status == 0)
    }
  }

  @Test func textIsEvaluatedByTheModelsTokenizer() throws {
    try withTemporaryFolder { folder in
      let text = try Self.writeText(folder)
      let packed = folder + "/m.otq"
      #expect(try Tool.run(Self.model, packed, "--no-calibration", "--bits", "8").status == 0)
      let arguments = ["--text", text, "--context", "64", "--windows", "3", "--json"]
      let outcomes = try [packed, Self.model].map { try Tool.finish(Tool.process(["eval", $0] + arguments)) }
      let values = try outcomes.map { try #require(JSONValue.parse($0.output)["perplexity"]?.double, "\($0.errors)") }
      #expect(abs(values[0] / values[1] - 1) < 0.1)
      #expect(try JSONValue.parse(outcomes[0].output)["tokenCount"]?.integer == 192)
    }
  }

  // MARK: Bad input

  /// One clear line, status 1, and no output.
  private static func expectRefusal(_ rule: String, _ arguments: [String], output: String?) throws {
    let outcome = try Tool.finish(Tool.process(arguments))
    #expect(outcome.status == 1, "\(arguments): \(outcome.output)")
    #expect(outcome.output.isEmpty)
    #expect(outcome.errorLines.count == 1, "\(outcome.errors)")
    #expect(outcome.errors.contains("[\(rule)]"), "\(outcome.errors)")
    if let output { #expect(!FileManager.default.fileExists(atPath: output)) }
  }

  @Test func statisticsOfAnotherModelAreRefused() throws {
    try withTemporaryFolder { folder in
      let text = try Self.writeText(folder)
      let model = try Self.copy("opt-mini", to: folder)
      let (statistics, other) = (folder + "/s.safetensors", folder + "/t.safetensors")
      let short = ["--text", text, "--samples", "1", "--length", "128"]
      #expect(try Tool.finish(Tool.process(["calibrate", model, "-o", statistics] + short)).status == 0)
      let llama = Fixtures.path("models/llama-mini")
      #expect(try Tool.finish(Tool.process(["calibrate", llama, "-o", other] + short)).status == 0)
      let output = folder + "/m.otq"
      try Self.expectRefusal("statistics-other-model", [llama, output, "--statistics", statistics], output: output)
      try Self.expectRefusal(
        "statistics-other-model", ["calibrate", "--merge", statistics, other, "-o", folder + "/u.safetensors"],
        output: folder + "/u.safetensors")
      // The same model with one weight changed.
      var weights = try contents(model + "/model.safetensors")
      weights[weights.count - 2] ^= 1
      try weights.write(to: URL(fileURLWithPath: model + "/model.safetensors"))
      try Self.expectRefusal("statistics-other-model", [model, output, "--statistics", statistics], output: output)
      try Self.expectRefusal(
        "statistics-format", [model, output, "--statistics", model + "/model.safetensors"], output: output)
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder).allSatisfy { !$0.hasSuffix(".partial") })
    }
  }

  @Test func aTokenizerOfAnotherModelIsRefused() throws {
    try withTemporaryFolder { folder in
      // Its own, but one token has an id far beyond the model's 2048.
      let own = try JSONValue.parse(contentsOf: MappedFile(path: Self.model + "/tokenizer.json"))
      var (root, part) = try (#require(own.object), #require(own["model"]?.object))
      var vocabulary = try #require(part["vocab"]?.object)
      vocabulary["In"] = .integer(5000)
      part["vocab"] = .object(vocabulary)
      root["model"] = .object(part)
      let path = folder + "/tokenizer.json"
      try JSONValue.object(root).text().write(toFile: path, atomically: true, encoding: .utf8)
      let text = folder + "/text.txt"
      try String(repeating: "In the beginning. In.\n", count: 60).write(toFile: text, atomically: true, encoding: .utf8)
      let model = try Self.copy("opt-mini", to: folder, tokenizer: path)
      let output = folder + "/out"
      try Self.expectRefusal("text-token", ["eval", model, "--text", text, "--logits-out", output], output: output)
      try Self.expectRefusal("text-token", ["calibrate", model, "--text", text, "-o", output], output: output)
      try Self.expectRefusal("text-token", [model, output, "--text", text], output: output)
      try Self.expectRefusal("text-token", [model, output], output: output)
      try FileManager.default.removeItem(atPath: model + "/tokenizer.json")
      try Self.expectRefusal("tokenizer-missing", ["eval", model, "--text", text], output: nil)
      try Self.expectRefusal("tokenizer-missing", ["calibrate", model, "--text", text, "-o", output], output: output)
      try Self.expectRefusal("calibration-impossible", [model, output, "--text", text], output: output)
      #expect(try Tool.run(model, output).output.contains("hadamard"))
    }
  }

  /// A model that is not calibrated says so, and names the file for whose sake it is not; nobody who
  /// asked for text or a method gets another file than that.
  @Test(arguments: [
    ("tokenizer.json", nil), ("config.json", nil),
    ("tokenizer.json", "{\"model\": {\"type\": \"Unheard\", \"vocab\": {}}}"),
  ])
  func everyWayOutOfCalibrationIsNamed(file: String, content: String?) throws {
    try Fixture.opt.withCopy([file: content, "pytorch_model.bin": nil]) { folder in
      let output = folder + "/m.otq"
      for arguments in [[folder, output], ["plan", folder]] {
        let outcome = try Tool.finish(Tool.process(arguments))
        #expect(outcome.status == 0, "\(outcome.errors)")
        let lines = outcome.errors.split(separator: "\n").filter { $0.hasPrefix("warning: not calibrated") }
        #expect(lines.count == 1 && lines.allSatisfy { $0.contains("/\(file)") }, "\(outcome.errors)")
      }
      #expect(try PackedMethod.name(of: output) == "hadamard")
      try FileManager.default.removeItem(atPath: output)
      let text = try Self.writeText(folder)
      for asked in [["--text", text], ["--method", "outliertune"]] {
        let outcome = try Tool.finish(Tool.process([folder, output] + asked))
        #expect(outcome.status == 1 && outcome.errors.contains("/\(file)"), "\(outcome.errors)")
        #expect(!FileManager.default.fileExists(atPath: output))
      }
    }
  }

  /// A link was meant to lead to something.
  @Test(arguments: ["tokenizer.json", "config.json", "generation_config.json", "model.safetensors"])
  func linksThatLeadNowhereAreNamed(file: String) throws {
    try Fixture.opt.withCopy([file: nil, "pytorch_model.bin": nil]) { folder in
      try FileManager.default.createSymbolicLink(
        atPath: "\(folder)/\(file)", withDestinationPath: "../../blobs/0123abcd")
      let outcome = try Tool.run(folder, folder + "/m.otq")
      #expect(outcome.status == 1 && outcome.errors.contains("/\(file)"), "\(outcome.errors)")
      #expect(outcome.errors.contains("is a link to '../../blobs/0123abcd', which is not there"), "\(outcome.errors)")
      // The remedy.
      try FileManager.default.removeItem(atPath: "\(folder)/\(file)")
      guard file != "model.safetensors" else { return }
      #expect(try Tool.run(folder, folder + "/m.otq").status == 0)
    }
  }

  /// Ranges of some few tokens are nothing to go by, wherever they come from.
  @Test func tooFewTokensAreRefused() throws {
    try withTemporaryFolder { folder in
      let output = folder + "/m.otq"
      let (text, word) = (try Self.writeText(folder), folder + "/word.txt")
      try "In".write(toFile: word, atomically: true, encoding: .utf8)
      func expect(_ remedy: String, _ options: [String]) throws {
        try Self.expectRefusal("calibration-tokens", [Self.model, output] + options, output: output)
        let errors = try Tool.finish(Tool.process([Self.model, output] + options)).errors
        #expect(errors.contains(remedy), "\(errors)")
      }
      try expect("give more text", ["--text", word])
      try expect("raise --samples", ["--text", text, "--samples", "127", "--length", "1"])
      try expect("raise --samples", ["--samples", "2", "--length", "63"])
      #expect(try Tool.run(Self.model, output, "--samples", "2", "--length", "64").status == 0)
      try FileManager.default.removeItem(atPath: output)
      // Statistics of that many are kept, since they can be merged, and not used.
      let files = ["a", "b"].map { "\(folder)/\($0).safetensors" }
      for (seed, file) in zip(["1", "2"], files) {
        let outcome = try Tool.run(
          "calibrate", Self.model, "--text", text, "--samples", "1", "--length", "100", "--seed", seed, "-o", file)
        #expect(outcome.status == 0 && outcome.errors.contains("merged"), "\(outcome.errors)")
      }
      try expect("calibrate --merge", ["--statistics", files[0]])
      #expect(try Tool.run("calibrate", "--merge", files[0], files[1], "-o", folder + "/c.safetensors").status == 0)
      #expect(try Tool.run(Self.model, output, "--statistics", folder + "/c.safetensors").status == 0)
    }
  }

  @Test func badTextIsRefused() throws {
    try withTemporaryFolder { folder in
      let output = folder + "/out"
      let text = try Self.writeText(folder)
      let empty = folder + "/empty.txt"
      try Data().write(to: URL(fileURLWithPath: empty))
      // The magic number of zstd and no more.
      let truncated = folder + "/cut.jsonl.zst"
      try Data([0x28, 0xB5, 0x2F, 0xFD]).write(to: URL(fileURLWithPath: truncated))
      for (rule, path) in [("text-empty", empty), ("text-zst-truncated", truncated), ("file-missing", "/none.txt")] {
        try Self.expectRefusal(rule, ["eval", Self.model, "--text", path, "--logits-out", output], output: output)
        try Self.expectRefusal(rule, ["calibrate", Self.model, "--text", path, "-o", output], output: output)
        try Self.expectRefusal(rule, [Self.model, output, "--text", path], output: output)
      }
      try Self.expectRefusal("text-context", ["eval", Self.model, "--text", text, "--context", "257"], output: nil)
      try Self.expectRefusal(
        "calibration-context", ["calibrate", Self.model, "--text", text, "--length", "257", "-o", output],
        output: output)
      try Self.expectRefusal("output-is-input", ["calibrate", Self.model, "--text", text, "-o", text], output: nil)
    }
  }

  @Test func wrongUsage() throws {
    for arguments in [
      ["calibrate", Self.model, "-o", "x"], ["calibrate", "--merge", "a", "-o", "x"],
      ["calibrate", Self.model, "--text", "a.txt"],
      ["calibrate", Self.model, "--text", "a.txt", "--ids", "b", "-o", "x"],
      [Self.model, "x", "--statistics", "s", "--weights-only"],
      [Self.model, "x", "--no-calibration", "--text", "a.txt"], [Self.model, "x", "--no-calibration", "--ids", "i"],
      [Self.model, "x", "--text", "a.txt", "--ids", "i"], [Self.model, "x", "--tensor", "t"],
      [Self.model, "x", "--text", "a.txt", "--max-memory", "much"], ["eval", Self.model],
      [Self.model, "x", "--act-scales", "a", "--no-symmetrization"],
    ] {
      #expect(try Tool.finish(Tool.process(arguments)).status == 64, "\(arguments)")
    }
  }
}
