import Foundation
import OTFoundation
import Testing
import _OTTestSupport

/// A conversion in parts gives the bytes of one by one machine, or says what is wrong.
@Suite struct PartsTests {
  /// The model, the options, the number of parts, and the environment of one of Slurm's tasks where it has some.
  private static func check(_ model: String, _ options: [String], _ count: Int) throws {
    try withTemporaryFolder { folder in
      let (whole, output, plan) = (folder + "/whole.otq", folder + "/m.otq", folder + "/plan.json")
      func succeed(_ arguments: [String]) throws {
        let outcome = try Tool.finish(Tool.process(arguments))
        #expect(outcome.status == 0, "\(arguments): \(outcome.errors)")
      }
      try succeed(["convert", model, whole] + options)
      try succeed(["plan", model, output, "--parts", "\(count)", "-o", plan] + options)
      #expect(!FileManager.default.fileExists(atPath: output))
      // In any order, and with any number of threads.
      for part in (1...count).reversed() {
        try succeed(["convert", "--plan", plan, "--part", "\(part)", "--threads", "\(1 + part % 3)"])
      }
      try succeed(["merge", "--plan", plan])
      #expect(try contents(output) == contents(whole), "\(model), \(options), \(count) parts")
      #expect(FileManager.default.fileExists(atPath: output + ".part-\(count)"))
    }
  }

  private static let samples = ["--samples", "2", "--length", "64"]

  @Test(arguments: [1, 2, 3, 7]) func bytesAreThoseOfOneMachine(_ count: Int) throws {
    try Self.check(Fixture.llama.folder, ["--no-calibration"], count)
  }

  @Test(arguments: Fixture.allCases, ["zstd", "none"])
  func ofEveryFamilyAndStorage(_ fixture: Fixture, _ storage: String) throws {
    try Self.check(fixture.folder, ["--no-calibration", "--bits", "6", "--compression", storage], 3)
  }

  @Test(arguments: [
    ["--method", "outliertune"], ["--method", "smoothquant"], ["--method", "osplus"], ["--rounding", "nearest"],
    ["--method", "llmint8"], ["--method", "quarot", "--rounding", "nearest"],
    ["--method", "per-token"],
    ["--method", "smoothquant", "--budget", "5bpw"], ["--method", "peg,groups=8"],
  ])
  func ofMethods(_ options: [String]) throws {
    try Self.check(Fixture.llama.folder, options + (options.contains("per-token") ? [] : Self.samples), 4)
  }

  @Test(arguments: [
    ["--weights-only", "--group-size", "32", "--weight-scheme", "asymmetric"],
    ["--no-calibration", "--exclude", "q_proj", "--bits-for", "down_proj=8", "--embedding-bits", "16", "--bits", "4"],
    ["--no-calibration", "--activation-bits", "16", "--per-tensor"],
  ])
  func ofOptions(_ options: [String]) throws { try Self.check(Fixture.llama.folder, options, 5) }

  /// Two names of one tensor, several files, experts, and a family that nobody knows.
  @Test func ofOtherSources() throws {
    try Self.check(Fixtures.path("pytorch/tied.bin"), ["--weights-only"], 2)
    try Self.check(Fixtures.path("models/families/mixtral"), ["--no-calibration"], 3)
    try Self.check(Fixtures.path("models/encoders/bert-span"), ["--no-calibration"], 2)
    try withTemporaryFolder { folder in
      try SmallModels.make("unknown-type", at: folder + "/m")
      try Self.check(folder + "/m", ["--weights-only"], 4)
    }
  }

  // MARK: What goes wrong

  private static func withPlan(_ body: (_ folder: String) throws -> Void) throws {
    try withTemporaryFolder { folder in
      try SmallModels.make("plain", at: folder + "/m")
      try run(folder, nil, "plan", "m", "m.otq", "--no-calibration", "--parts", "2", "-o", "plan.json")
      try body(folder)
    }
  }

  /// Runs the tool in a folder; it must end well, or with a refusal.
  private static func run(
    _ folder: String, _ rule: String?, _ arguments: String..., environment: [String: String] = [:]
  ) throws {
    let process = Tool.process(arguments, environment: environment)
    process.currentDirectoryURL = URL(fileURLWithPath: folder)
    let outcome = try Tool.finish(process)
    guard let rule else {
      #expect(outcome.status == 0, "\(arguments): \(outcome.errors)")
      return
    }
    #expect(outcome.status == 1 && outcome.errors.contains("[\(rule)]"), "\(arguments): \(outcome.errors)")
    #expect(!FileManager.default.fileExists(atPath: folder + "/m.otq"))
  }

  @Test func partsAreAllThereAndWhole() throws {
    try Self.withPlan { folder in
      try Self.run(folder, "merge-part-missing", "merge", "--plan", "plan.json")
      try Self.run(folder, nil, "convert", "--plan", "plan.json", "--part", "1")
      try Self.run(folder, "merge-part-missing", "merge", "--plan", "plan.json")
      try Self.run(folder, nil, "convert", "--plan", "plan.json", "--part", "2")
      try Self.run(folder, "output-exists", "convert", "--plan", "plan.json", "--part", "2")
      let part = folder + "/m.otq.part-2"
      let bytes = try contents(part)
      // A part of another number, one that is cut off, and one with a changed byte.
      try contents(folder + "/m.otq.part-1").write(to: URL(fileURLWithPath: part))
      try Self.run(folder, "merge-part", "merge", "--plan", "plan.json")
      try bytes.dropLast().write(to: URL(fileURLWithPath: part))
      try Self.run(folder, "otq-truncated", "merge", "--plan", "plan.json")
      var changed = bytes
      changed[bytes.count / 2] ^= 1
      try changed.write(to: URL(fileURLWithPath: part))
      try Self.run(folder, "otq-checksum", "merge", "--plan", "plan.json")
      try bytes.write(to: URL(fileURLWithPath: part))
      // Another plan, though it comes to the same.
      try Self.run(
        folder, nil, "plan", "m", "m.otq", "--no-calibration", "--bits", "6", "--parts", "2", "-o", "plan.json",
        "--force")
      try Self.run(folder, "merge-other-plan", "merge", "--plan", "plan.json")
      // The remedy.
      for number in ["1", "2"] {
        try Self.run(folder, nil, "convert", "--plan", "plan.json", "--part", number, "--force")
      }
      try Self.run(folder, nil, "merge", "--plan", "plan.json")
      try Self.run(folder, nil, "verify", "m.otq", "--reference", "m")
      let again = try Tool.run("merge", "--plan", folder + "/plan.json")
      #expect(again.status == 1 && again.errors.contains("[output-exists]"))
      #expect(try Tool.run("merge", "--plan", folder + "/plan.json", "--force").status == 0)
    }
  }

  @Test func sourcesAreThoseOfThePlan() throws {
    try Self.withPlan { folder in
      let model = folder + "/m/model.safetensors"
      let bytes = try contents(Fixture.llama.path("model.safetensors"))
      try Self.run(folder, nil, "convert", "--plan", "plan.json", "--part", "1")
      // Of the same size, with another weight: the second part sees another file than the first.
      var changed = bytes
      changed[bytes.count - 1] ^= 1
      try FileManager.default.removeItem(atPath: model)
      try changed.write(to: URL(fileURLWithPath: model))
      try Self.run(folder, nil, "convert", "--plan", "plan.json", "--part", "2")
      try Self.run(folder, "merge-sources", "merge", "--plan", "plan.json")
      try (bytes + [0]).write(to: URL(fileURLWithPath: model))
      try Self.run(folder, "safetensors-trailing-bytes", "convert", "--plan", "plan.json", "--part", "2", "--force")
      // Another model's configuration.
      try bytes.write(to: URL(fileURLWithPath: model))
      try Self.run(folder, nil, "convert", "--plan", "plan.json", "--part", "2", "--force")
      let configuration = folder + "/m/config.json"
      try String(contentsOfFile: configuration, encoding: .utf8)
        .replacingOccurrences(of: "\"rms_norm_eps\": 1e-0", with: "\"rms_norm_eps\": 2e-0")
        .write(toFile: configuration, atomically: true, encoding: .utf8)
      try Self.run(folder, "plan-differs", "convert", "--plan", "plan.json", "--part", "2", "--force")
      // Another recipe than the plan's.
      try SmallModels.make("plain", at: folder + "/m")
      try Data("other".utf8).write(to: URL(fileURLWithPath: folder + "/plan.json.recipe"))
      try Self.run(folder, "plan-recipe", "convert", "--plan", "plan.json", "--part", "2", "--force")
      try Data("{}".utf8).write(to: URL(fileURLWithPath: folder + "/plan.json"))
      try Self.run(folder, "plan-format", "merge", "--plan", "plan.json")
    }
  }

  /// The tasks of an array job know their part.
  @Test func tasksOfSlurm() throws {
    try Self.withPlan { folder in
      for (task, first) in [("0", "0"), ("6", "5")] {
        let variables = [
          "SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_MIN": first, "SLURM_ARRAY_TASK_COUNT": "2",
          "SLURM_ARRAY_TASK_STEP": "1",
        ]
        try Self.run(folder, nil, "convert", "--plan", "plan.json", environment: variables)
      }
      try Self.run(folder, nil, "merge", "--plan", "plan.json")
      let other = Tool.process(
        ["convert", "--plan", folder + "/plan.json"],
        environment: ["SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "3"])
      let refused = try Tool.finish(other)
      #expect(refused.status == 1 && refused.errors.contains("[option-value]"), "\(refused.errors)")
      #expect(refused.errors.contains("--array=1-2"))
    }
  }

  /// The batch files, as Slurm runs them in tasks and then in a job of its own.
  @Test func batchFiles() throws {
    try Self.withPlan { folder in
      let scripts = Fixtures.root.deletingLastPathComponent().appendingPathComponent("scripts/slurm").path
      // A task that is run again replaces its part.
      for task in ["2", "1", "2"] {
        let line =
          "SLURM_ARRAY_TASK_ID=\(task) SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_COUNT=2 SLURM_CPUS_PER_TASK=1 "
          + "'\(scripts)/parts.sbatch' '\(folder)/plan.json'"
        let outcome = try Tool.shell(line)
        #expect(outcome.status == 0, "\(outcome.errors)")
      }
      let outcome = try Tool.shell("'\(scripts)/merge.sbatch' '\(folder)/plan.json'")
      #expect(outcome.status == 0, "\(outcome.errors)")
      try Self.run(folder, nil, "verify", "m.otq", "--reference", "m")
    }
  }

  @Test func wrongUse() throws {
    let model = Fixture.opt.folder
    for arguments in [
      ["convert", "--plan", "p", model], ["convert", model, "o", "--part", "1"], ["convert", model],
      ["convert", "--plan", "p", "--bits", "6"], ["plan", model, "--parts", "2"], ["plan", model, "o"],
      ["plan", model, "o", "--parts", "0", "-o", "p"], ["merge"],
      ["plan", model, "o", "--parts", "2", "-o", "p", "--require", "kl<=1"],
    ] {
      #expect(try Tool.finish(Tool.process(arguments)).status == 64, "\(arguments)")
    }
    try withTemporaryFolder { folder in
      let rounded = try Tool.run(
        "plan", model, folder + "/o", "--parts", "2", "-o", folder + "/p", "--rounding", "gptq")
      #expect(rounded.status == 1 && rounded.errors.contains("[plan-rounding]"), "\(rounded.errors)")
      #expect(rounded.errors.contains("--rounding nearest"))
    }
  }
}
