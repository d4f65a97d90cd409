import Foundation
import OTJSON
import Testing
import _OTTestSupport

/// Exit statuses, messages, and that nothing is written when something is refused.
@Suite struct CommandLineTests {
  static let model = Fixtures.path("models/opt-mini")

  @Test(arguments: [
    [], ["a"], ["a", "b", "c"], ["a", "b", "--bits", "9"], ["a", "b", "--bits", "x"], ["a", "b", "--bogus"],
    ["a", "b", "--group-size", "17"], ["a", "b", "--group-size", "32", "--per-tensor"],
    ["a", "b", "--embedding-bits", "4"], ["a", "b", "--threads", "0"], ["a", "b", "--exclude", "("],
    ["a", "b", "--bits-for", "fc1"], ["a", "b", "--bits-for", "fc1=12"], ["a", "b", "--family", "gpt"],
    ["a", "b", "--symmetrization", "s"], ["a", "b", "--act-scales", "s", "--symmetrization", "s"],
    ["a", "b", "--act-scales", "s", "--symmetrization-samples", "3"],
    ["a", "b", "--act-scales", "s", "--weights-only"], ["a", "b", "--weight-scheme", "odd"],
    ["a", "b", "--method", "odd"], ["a", "b", "--method", "smoothquant,alpha=2"],
    ["a", "b", "--method", "hadamard", "--weights-only"],
    ["export", "a", "b"], ["export", "a", "b", "--to", "odd"], ["export", "a", "b", "--to", "otq"],
    ["export", "a", "b", "--to", "safetensors", "--dtype", "f8"], ["verify"], ["verify", "a", "--tolerance", "t"],
    ["unpack", "a"], ["inspect"], ["plan"],
  ])
  func wrongUsageIs64(arguments: [String]) throws {
    let outcome = try Tool.finish(Tool.process(arguments))
    #expect(outcome.status == 64)
    #expect(outcome.output.isEmpty && !outcome.errors.isEmpty)
  }

  /// Of every command that the tool lists; `demo` takes no argument that an example could show.
  @Test func helpHasExamples() throws {
    let lines = try Tool.run("--help").output.split(separator: "\n", omittingEmptySubsequences: false)
    let commands = lines.drop { $0 != "SUBCOMMANDS:" }.dropFirst().prefix { !$0.isEmpty }
      .filter { $0.hasPrefix("  ") && !$0.hasPrefix("   ") }.compactMap {
        $0.split(separator: " ").first.map(String.init)
      }
    #expect(
      Set(commands).isSuperset(of: ["convert", "run", "eval", "embed", "calibrate", "verify", "tokenize", "demo"]))
    for command in commands {
      let outcome = try Tool.run(command, "--help")
      #expect(outcome.status == 0, "\(command)")
      #expect(outcome.output.contains("USAGE: otconvert \(command)"), "\(command)")
      guard command != "demo" else { continue }
      let examples = outcome.output.split(separator: "\n").drop { $0 != "EXAMPLES" }.dropFirst()
      #expect(examples.first?.contains("otconvert") == true, "\(command)")
    }
  }

  /// The format is that of the files of fixtures/previous-versions/1.0.
  @Test func versionNamesProgramFormatAndInstructionSet() throws {
    let outcome = try Tool.run("--version", environment: ["OTQ_ISA": "scalar"])
    let lines = outcome.output.split(separator: "\n").map(String.init)
    #expect(outcome.status == 0 && outcome.errors.isEmpty)
    #expect(lines.count == 3 && lines[0].hasPrefix("otconvert 0.1.0"))
    #expect(lines.dropFirst() == [".otq format 1.0", "instruction set scalar"])
  }

  /// A refusal: status 1, one line that names file and rule, nothing written.
  func expectRefusal(
    _ rule: String, naming name: String, _ arguments: [String], in folder: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let before = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
    let outcome = try Tool.finish(Tool.process(arguments))
    #expect(outcome.status == 1, sourceLocation: sourceLocation)
    #expect(outcome.errorLines.count == 1, "\(outcome.errors)", sourceLocation: sourceLocation)
    #expect(outcome.errors.contains("[\(rule)]"), "\(outcome.errors)", sourceLocation: sourceLocation)
    #expect(outcome.errors.contains(name), "\(outcome.errors)", sourceLocation: sourceLocation)
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == before, sourceLocation: sourceLocation)
  }

  @Test func outputs() throws {
    try withTemporaryFolder { folder in
      let source = folder + "/model.safetensors"
      try FileManager.default.copyItem(atPath: Self.model + "/model.safetensors", toPath: source)
      let original = try contents(source)
      try FileManager.default.createSymbolicLink(atPath: folder + "/link.otq", withDestinationPath: source)
      try FileManager.default.linkItem(atPath: source, toPath: folder + "/hard.otq")
      try Data("old".utf8).write(to: URL(fileURLWithPath: folder + "/old.otq"))
      // The input under any of its names.
      for output in [source, folder + "/link.otq", folder + "/hard.otq"] {
        try expectRefusal("output-is-input", naming: output, [source, output, "--force"], in: folder)
      }
      // An output that exists, or whose folder does not.
      try expectRefusal("output-exists", naming: "old.otq", [source, folder + "/old.otq"], in: folder)
      try expectRefusal("output-no-parent", naming: "missing", [source, folder + "/missing/x.otq"], in: folder)
      #expect(try contents(source) == original)
      #expect(try contents(folder + "/old.otq") == Data("old".utf8))
      #expect(try Tool.run(source, folder + "/old.otq", "--force", "--family", "opt").status == 0)
      // The packed file must not be overwritten by unpacking it either.
      try expectRefusal(
        "output-is-input", naming: "old.otq", ["unpack", folder + "/old.otq", folder + "/old.otq", "--force"],
        in: folder)
      // What is packed already is no checkpoint.
      for arguments in [["convert", folder + "/old.otq", folder + "/y.otq"], ["plan", folder + "/old.otq"]] {
        try expectRefusal("safetensors-is-otq", naming: "unpack", arguments, in: folder)
      }
      // The unfinished output of an interrupted run.
      try FileManager.default.moveItem(atPath: folder + "/old.otq", toPath: folder + "/x.partial")
      try expectRefusal("otq-partial", naming: "x.partial", ["inspect", folder + "/x.partial"], in: folder)
      try expectRefusal(
        "file-missing", naming: "nothing", [folder + "/nothing", folder + "/y.otq"], in: folder)
    }
  }

  /// Not the tensors alone: whatever a command reads.
  @Test func nothingThatIsReadIsOverwritten() throws {
    try withTemporaryFolder { folder in
      for name in ["model.safetensors", "config.json", "tokenizer.json"] {
        try FileManager.default.copyItem(atPath: "\(Self.model)/\(name)", toPath: "\(folder)/\(name)")
      }
      func path(_ name: String) -> String { "\(folder)/\(name)" }
      try String(repeating: "In the beginning God created the heaven.\n", count: 40)
        .write(toFile: path("t.txt"), atomically: true, encoding: .utf8)
      try "{\"minimumSqnrDecibels\": {\"6\": 1}}".write(toFile: path("tol.json"), atomically: true, encoding: .utf8)
      let short = ["--text", path("t.txt"), "--samples", "1", "--length", "128", "--quiet"]
      #expect(try Tool.finish(Tool.process(["calibrate", folder, "-o", path("s")] + short)).status == 0)
      #expect(try Tool.run(folder, path("x.otq"), "--bits", "6", "--statistics", path("s"), "--quiet").status == 0)
      let names = try FileManager.default.contentsOfDirectory(atPath: folder)
      let before = try names.map { try contents(path($0)) }
      let verify = ["verify", path("x.otq"), "--reference", folder]
      let commands: [(names: [String], arguments: [String])] = [
        (["config.json", "tokenizer.json", "t.txt"], ["calibrate", folder] + short + ["-o"]),
        (["s"], ["calibrate", "--merge", path("s"), path("s"), "-o"]),
        (["config.json", "t.txt"], [folder, "--force"] + short),
        (["s", "tokenizer.json"], [folder, "--statistics", path("s")]),
        (["config.json", "tol.json", "x.otq"], verify + ["--tolerance", path("tol.json"), "--report"]),
        (
          ["t.txt", "tol.json"],
          verify + ["--level", "layers", "--tolerance", path("tol.json")] + short + ["--junit"]
        ),
        (
          ["config.json", "t.txt", "x.otq"],
          ["eval", path("x.otq"), "--against", folder, "--text", path("t.txt"), "--context", "16", "--logits-out"]
        ),
        (["x.otq"], ["unpack", path("x.otq")]),
      ]
      for (names, arguments) in commands {
        for name in names {
          try expectRefusal("output-is-input", naming: name, arguments + [path(name), "--force"], in: folder)
        }
      }
      #expect(try names.map { try contents(path($0)) } == before)
    }
  }

  @Test func oneFileIsNotWrittenTwice() throws {
    try withTemporaryFolder { folder in
      #expect(try Tool.run(Self.model, folder + "/x.otq", "--no-calibration", "--quiet").status == 0)
      try FileManager.default.createSymbolicLink(atPath: folder + "/link", withDestinationPath: ".")
      for (force, other) in [([], "r"), (["--force"], "r"), (["--force"], "link/./r")] {
        try expectRefusal(
          "output-twice", naming: "r",
          ["verify", folder + "/x.otq", "--reference", Self.model, "--report", folder + "/r", "--junit"]
            + ["\(folder)/\(other)"] + force, in: folder)
      }
    }
  }

  /// Before the text, which is not there.
  @Test func outputsAreLookedAtFirst() throws {
    try withTemporaryFolder { folder in
      let text = ["--text", folder + "/none.txt"]
      for (rule, output) in [
        ("output-no-parent", folder + "/none/x"), ("output-not-regular", ""), ("output-not-regular", folder),
        ("output-unwritable", folder + "/" + String(repeating: "x", count: 300)),
      ] {
        for arguments in [
          [Self.model, output] + text, ["calibrate", Self.model, "-o", output] + text,
          ["eval", Self.model, "--logits-out", output] + text,
        ] {
          let outcome = try Tool.finish(Tool.process(arguments))
          #expect(outcome.status == 1 && outcome.errors.contains("[\(rule)]"), "\(arguments): \(outcome)")
          #expect(outcome.errorLines.count == 1, "\(outcome.errors)")
        }
      }
    }
  }

  @Test func unknownFamilies() throws {
    try withTemporaryFolder { folder in
      try FileManager.default.copyItem(atPath: Self.model + "/model.safetensors", toPath: folder + "/model.safetensors")
      try Data("{\"model_type\":\"perceiver\"}".utf8).write(to: URL(fileURLWithPath: folder + "/config.json"))
      try expectRefusal("family-unknown", naming: "bloom", [folder, folder + "/m.otq"], in: folder)
      let packed = try Tool.run(folder, folder + "/m.otq", "--weights-only", "--bits", "6")
      #expect(packed.status == 0 && packed.errors.contains("warning: "), "\(packed.errors)")
      #expect(try Tool.run("verify", folder + "/m.otq", "--reference", folder).status == 0)
      #expect(try Tool.run("unpack", folder + "/m.otq", folder + "/m.safetensors").status == 0)
    }
  }

  @Test func badNumbersInWeightsAreNamed() throws {
    try withTemporaryFolder { folder in
      var bytes = try contents(Self.model + "/model.safetensors")
      // The last two bytes of the file: an infinite float16.
      bytes.replaceSubrange(bytes.count - 2..<bytes.count, with: [0x00, 0x7C])
      try bytes.write(to: URL(fileURLWithPath: folder + "/model.safetensors"))
      try FileManager.default.copyItem(atPath: Self.model + "/config.json", toPath: folder + "/config.json")
      try expectRefusal(
        "weight-not-finite", naming: "model.decoder", [folder, folder + "/m.otq", "--bits", "6"], in: folder)
    }
  }

  /// Scale files, rules 88 and 89 and the reader's own.
  @Test func statisticsOfAnotherModel() throws {
    try withTemporaryFolder { folder in
      let convert = [Self.model, folder + "/m.otq", "--bits", "6", "--act-scales"]
      try expectRefusal(
        "statistics-unknown-name", naming: "act_scales.pt",
        convert + [Fixtures.path("models/llama-mini/act_scales.pt")], in: folder)
      try expectRefusal(
        "safetensors-is-json", naming: "config.json", convert + [Self.model + "/config.json"], in: folder)
    }
  }

  @Test func instructionSets() throws {
    let outcome = try Tool.run("inspect", Self.model, environment: ["OTQ_ISA": "mmx"])
    #expect(outcome.status == 1 && outcome.errors.contains("[instruction-set-unknown]"), "\(outcome.errors)")
  }

  @Test func planReadsHeadersOnly() throws {
    try withTemporaryFolder { folder in
      let plan = try JSONValue.parse(try Tool.run("plan", Self.model, "--bits", "6", "--json").output)
      let estimate = try #require(plan["estimatedByteCount"]?.integer)
      #expect(try Tool.run(Self.model, folder + "/m.otq", "--bits", "6", "--no-calibration").status == 0)
      let size = try contents(folder + "/m.otq").count
      // The tokenizer, 124 kB, and the index are not in the estimate.
      #expect(abs(size - estimate) < 100_000, "\(size) against \(estimate)")
      #expect(plan["alternatives"]?.array?.count == 12)
      #expect(plan["family"]?.string == "opt")
      // 0.9 million parameters in float32, and the values of some tokens.
      #expect(try #require(plan["calibrationMemoryByteCount"]?.integer) > 4_000_000)
      let efforts = try #require(plan["efforts"]?.array)
      #expect(efforts.map { $0["effort"]?.string } == ["fast", "standard", "thorough"])
      let seconds = efforts.compactMap { $0["processorSeconds"]?.double }
      let memory = efforts.compactMap { $0["memoryByteCount"]?.integer }
      #expect(seconds.count == 3 && 0 < seconds[0] && seconds[0] < seconds[1] && seconds[1] < seconds[2], "\(seconds)")
      #expect(memory.count == 3 && memory[0] < memory[1] && memory[1] <= memory[2], "\(memory)")
      let without = try JSONValue.parse(try Tool.run("plan", Self.model, "--no-calibration", "--json").output)
      #expect(without["efforts"]?.array?.map { $0["effort"]?.string } == ["fast"])
      #expect(without["calibrationMemoryByteCount"] == .some(.null))
      #expect(try Tool.run("plan", Self.model).output.contains("calibrates the model first, which takes up to"))
      // An effort that does not fit is told beside those that do.
      let limited = ["--samples", "4", "--length", "64", "--max-memory", "7M"]
      let narrow = try JSONValue.parse(
        Tool.finish(Tool.process(["plan", Self.model, "--json"] + limited)).output)
      #expect(narrow["efforts"]?.array?.map { $0["memoryByteCount"] == .null } == [false, false, true])
      #expect(
        try Tool.finish(Tool.process(["plan", Self.model] + limited)).output.contains("more than --max-memory: samples")
      )
    }
  }

  @Test func scalesOfActivations() throws {
    try withTemporaryFolder { folder in
      let packed = folder + "/m.otq"
      let asked = ["--no-calibration", "--activation-bits", "6", "--activations", "group:64"]
      #expect(try Tool.finish(Tool.process([Self.model, packed] + asked)).status == 0)
      for command in [["plan", Self.model] + asked, ["inspect", packed]] {
        let output = try Tool.finish(Tool.process(command)).output
        #expect(output.contains("sites: int6, a scale per 64 channels of a token"), "\(output)")
      }
      for (options, status) in [
        (["--activations", "group:48"], 64), (["--activations", "group:64", "--group-size", "96"], 64),
        (["--activations", "token", "--activation-bits", "16"], 64),
        (["--activations", "channel", "--method", "per-token"], 1),
      ] {
        let outcome = try Tool.finish(Tool.process(["plan", Self.model] + options))
        #expect(outcome.status == status, "\(options): \(outcome.errors)")
        #expect((status == 1) == outcome.errors.contains("[method-activations]"), "\(options): \(outcome.errors)")
      }
    }
  }
}
