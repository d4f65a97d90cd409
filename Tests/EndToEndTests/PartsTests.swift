import Foundation
import OTCheckpoint
import OTFoundation
import OTJSON
import OTTensor
import Testing
import _OTTestSupport

/// A conversion in parts gives the bytes of one by one machine, or says what is wrong.
@Suite struct PartsTests {
  /// The model, the options, the number of parts, and whether one part goes on from what another leaves.
  private static func check(
    _ model: String, _ options: [String], _ count: Int, isSequential: Bool = false
  ) throws {
    try withTemporaryFolder { folder in
      let (whole, output, plan) = (folder + "/whole.otq", folder + "/m.otq", folder + "/plan.json")
      func succeed(_ arguments: [String]) throws {
        let outcome = try Tool.finish(Tool.process(arguments))
        #expect(outcome.status == 0, "\(arguments): \(outcome.errors)")
      }
      try succeed(["convert", model, whole] + options)
      try succeed(["plan", model, output, "--parts", "\(count)", "-o", plan] + options)
      #expect(!FileManager.default.fileExists(atPath: output))
      // In any order, where one is not given, and with any number of threads.
      for part in isSequential ? Array(1...count) : (1...count).reversed() {
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

  // MARK: Rounding by text

  @Test(arguments: [1, 2, 3, 7], ["zstd", "none"]) func ofTheDefault(_ count: Int, _ storage: String) throws {
    try Self.check(
      Fixture.llama.folder, Self.samples + ["--bits", "6", "--compression", storage], count, isSequential: true)
  }

  @Test(arguments: [
    ["--rounding", "gptq,drift=0.5"], ["--rounding", "clip", "--group-size", "32"],
    ["--method", "smoothquant", "--rounding", "gptq", "--weight-scheme", "asymmetric"],
    ["--method", "quarot", "--rounding", "gptq"], ["--per-tensor", "--rounding", "gptq"], ["--budget", "5bpw"],
    ["--bits-for", "o_proj=8", "--exclude", "layers\\.0\\.mlp", "--bits", "4", "--effort", "thorough"],
  ])
  func ofRoundingByText(_ options: [String]) throws {
    try Self.check(Fixture.llama.folder, options + Self.samples, 4, isSequential: true)
  }

  /// Biases that take up shifts, experts that no token reaches, and values that no memory has room for.
  @Test func ofOtherModelsRoundedByText() throws {
    try Self.check(
      Fixture.opt.folder, Self.samples + ["--method", "osplus", "--rounding", "gptq"], 3, isSequential: true)
    try withTemporaryFolder { folder in
      let ids = folder + "/ids.safetensors"
      let shape = try #require(Shape([6, 24]))
      var writer = try SafetensorsWriter(
        path: ids, entries: [.init(name: "input_ids", elementType: .i64, shape: shape)])
      let tokens = (0..<Int64(144)).map { $0 * $0 * 31 % 127 }
      try tokens.withUnsafeBytes { try writer.append($0) }
      try writer.commit()
      for family in ["mixtral", "deepseek3"] {
        try Self.check(
          Fixtures.path("models/families/" + family), ["--ids", ids, "--rounding", "gptq"], 3, isSequential: true)
      }
    }
  }

  /// Each part goes on from the one before it, and says so where that is not there.
  @Test func partsWaitForTheOneBefore() throws {
    try withTemporaryFolder { folder in
      try SmallModels.make("plain", at: folder + "/m")
      let plan = ["plan", "m", "m.otq", "--parts", "3", "-o", "plan.json"] + Self.samples
      let process = Tool.process(plan)
      process.currentDirectoryURL = URL(fileURLWithPath: folder)
      let planned = try Tool.finish(process)
      #expect(planned.status == 0 && planned.output.contains("one after the other"), "\(planned.errors)")
      try Self.run(folder, "part-waits", "convert", "--plan", "plan.json", "--part", "2")
      // The second waits in the background until the first has left its values.
      let waiting = Tool.process(["convert", "--plan", folder + "/plan.json", "--part", "2", "--wait", "5"])
      try waiting.run()
      try Self.run(folder, nil, "convert", "--plan", "plan.json", "--part", "1")
      waiting.waitUntilExit()
      #expect(waiting.terminationStatus == 0)
      // What it left has a changed byte, and then is of another plan.
      let values = folder + "/m.otq.part-2.values"
      let bytes = try contents(values)
      var changed = bytes
      changed[bytes.count - 1] ^= 1
      try changed.write(to: URL(fileURLWithPath: values))
      try Self.run(folder, "part-values", "convert", "--plan", "plan.json", "--part", "3")
      try bytes.write(to: URL(fileURLWithPath: values))
      try Self.run(folder, nil, "convert", "--plan", "plan.json", "--part", "3")
      try Self.run(folder, nil, "merge", "--plan", "plan.json")
      let other = plan + ["--bits", "6", "--force"]
      let again = Tool.process(other)
      again.currentDirectoryURL = URL(fileURLWithPath: folder)
      #expect(try Tool.finish(again).status == 0)
      let refused = try Tool.run("convert", "--plan", folder + "/plan.json", "--part", "2", "--force")
      #expect(refused.status == 1 && refused.errors.contains("[part-waits]"), "\(refused.errors)")
      #expect(refused.errors.contains("--part 1"))
    }
  }

  /// What is foretold of a part is what it reads, writes and leaves.
  @Test func aPlanTellsWhatPartsTake() throws {
    try withTemporaryFolder { folder in
      try SmallModels.make("plain", at: folder + "/m")
      let process = Tool.process(
        ["plan", "m", "m.otq", "--parts", "3", "-o", "plan.json", "--json", "--compression", "none"] + Self.samples)
      process.currentDirectoryURL = URL(fileURLWithPath: folder)
      let json = try JSONValue.parse(try Tool.finish(process).output)
      let parts = try #require(json["parts"]?.array)
      #expect(json["isSequential"]?.bool == true && parts.count == 3)
      #expect(parts[2]["passedByteCount"]?.integer == 0)
      for (index, part) in parts.enumerated() {
        try Self.run(folder, nil, "convert", "--plan", "plan.json", "--part", "\(index + 1)")
        let seconds = try #require(part["processorSeconds"]?.double)
        #expect(seconds > 0 && part["memoryByteCount"]?.integer ?? 0 > 100_000_000)
        func isClose(_ key: String, to path: String) throws -> Bool {
          let size = Double(try contents(folder + path).count)
          return abs(Double(part[key]?.integer ?? 0) / size - 1) < 0.2
        }
        // The first has the tokenizer, too.
        if index > 0 { #expect(try isClose("estimatedByteCount", to: "/m.otq.part-\(index + 1)")) }
        if index < 2 { #expect(try isClose("passedByteCount", to: "/m.otq.part-\(index + 1).values")) }
      }
      let read = parts.compactMap { $0["sourceByteCount"]?.integer }.reduce(0, +)
      #expect(abs(read - (try contents(folder + "/m/model.safetensors").count)) < 50_000)
    }
  }

  /// A part that went on from values that the one before it does not leave any more.
  @Test func partsAreOfOneRounding() throws {
    try withTemporaryFolder { folder in
      try SmallModels.make("plain", at: folder + "/m")
      let text = folder + "/text.txt"
      func write(_ word: String) throws {
        try String(repeating: "The \(word) went to the sea and came back again. ", count: 200)
          .write(toFile: text, atomically: true, encoding: .utf8)
      }
      try write("king")
      try Self.run(
        folder, nil, "plan", "m", "m.otq", "--parts", "2", "-o", "plan.json", "--text", "text.txt", "--samples", "2",
        "--length", "64")
      try write("ship")
      try Self.run(folder, "plan-differs", "convert", "--plan", "plan.json", "--part", "1")
      try write("king")
      for part in ["1", "2"] { try Self.run(folder, nil, "convert", "--plan", "plan.json", "--part", part) }
      // The first part again, from a model whose first weights differ: its values are others.
      let model = folder + "/m/model.safetensors"
      let bytes = try contents(model)
      var changed = bytes
      let middle = bytes.count / 2
      for index in stride(from: middle, to: middle + 4096, by: 64) { changed[index] ^= 1 }
      try FileManager.default.removeItem(atPath: model)
      try changed.write(to: URL(fileURLWithPath: model))
      try Self.run(folder, nil, "convert", "--plan", "plan.json", "--part", "1", "--force")
      let merged = try Tool.run("merge", "--plan", folder + "/plan.json")
      #expect(merged.status == 1 && merged.errors.contains("[merge-"), "\(merged.errors)")
    }
  }

  /// The same where no part has seen a file that the other has read, so that only the values tell: the checkpoint's index
  /// is its first file, that of the second part's weights the next, whose digest that part takes.
  @Test func aPartOfOtherValuesIsRefused() throws {
    try withTemporaryFolder { folder in
      try SmallModels.make("plain", at: folder + "/m")
      let plan =
        ["plan", "m", "m.otq", "--parts", "2", "-o", "plan.json", "--force", "--method", "smoothquant"]
        + ["--rounding", "gptq"] + Self.samples
      func planned() throws -> [String: Int] {
        let process = Tool.process(plan)
        process.currentDirectoryURL = URL(fileURLWithPath: folder)
        #expect(try Tool.finish(process).status == 0)
        let json = try JSONValue.parse(contentsOf: MappedFile(path: folder + "/plan.json"))
        return (json["tensors"]?.array ?? []).reduce(into: [:]) { parts, entry in
          guard let pair = entry.array, let name = pair[0].string else { return }
          parts[name] = pair[1].integer
        }
      }
      let wanted = try planned()
      let tensors = try Checkpoint.open(Fixture.llama.folder).tensors
      var weightMap = JSONObject()
      for part in 0..<2 {
        let name = "weights-\(2 - part).safetensors"
        let own = tensors.filter { wanted[$0.name] == part }
        var writer = try SafetensorsWriter(
          path: "\(folder)/m/\(name)",
          entries: own.map { .init(name: $0.name, elementType: $0.elementType, shape: $0.shape) })
        for view in own {
          try writer.append(view)
          weightMap[view.name] = .string(name)
        }
        try writer.commit()
      }
      try FileManager.default.removeItem(atPath: folder + "/m/model.safetensors")
      try JSONValue.object(["metadata": .object([:]), "weight_map": .object(weightMap)]).text()
        .write(toFile: folder + "/m/model.safetensors.index.json", atomically: true, encoding: .utf8)
      #expect(try planned() == wanted)
      for part in ["1", "2"] { try Self.run(folder, nil, "convert", "--plan", "plan.json", "--part", part) }
      // The first again, from other weights: it leaves other values than the second went on from.
      let file = folder + "/m/weights-2.safetensors"
      var bytes = try contents(file)
      let middle = bytes.count / 2
      for index in stride(from: middle, to: middle + 4096, by: 64) { bytes[index] ^= 1 }
      try bytes.write(to: URL(fileURLWithPath: file))
      try Self.run(folder, nil, "convert", "--plan", "plan.json", "--part", "1", "--force")
      try Self.run(folder, "merge-rounding", "merge", "--plan", "plan.json")
      // The remedy.
      try Self.run(folder, nil, "convert", "--plan", "plan.json", "--part", "2", "--force")
      try Self.run(folder, nil, "merge", "--plan", "plan.json")
      try Self.run(folder, nil, "verify", "m.otq", "--reference", "m")
    }
  }

  /// Weights that are decoded count as what lies in the file.
  @Test(arguments: ["deepseek3-fp8", "gptoss-mxfp4"]) func aPlanCountsWhatIsRead(_ family: String) throws {
    try withTemporaryFolder { folder in
      let model = Fixtures.path("models/families/" + family)
      let outcome = try Tool.run(
        "plan", model, folder + "/m.otq", "--no-calibration", "--parts", "2", "-o", folder + "/plan.json", "--json")
      #expect(outcome.status == 0, "\(outcome.errors)")
      let parts = try #require(try JSONValue.parse(outcome.output)["parts"]?.array)
      let read = parts.compactMap { $0["sourceByteCount"]?.integer }.reduce(0, +)
      let stored = try SafetensorsFile(mapping: MappedFile(path: model + "/model.safetensors")).tensors
        .reduce(0) { $0 + $1.byteCount }
      #expect(abs(Double(read) / Double(stored) - 1) < 0.05, "\(read) bytes, not \(stored)")
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
      ["convert", model, "o", "--wait", "1"], ["convert", "--plan", "p", "--wait", "-1"],
    ] {
      #expect(try Tool.finish(Tool.process(arguments)).status == 64, "\(arguments)")
    }
  }
}
