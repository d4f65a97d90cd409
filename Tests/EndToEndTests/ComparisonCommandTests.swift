import Foundation
import OTJSON
import Testing
import _OTTestSupport

/// `compare`, as a user runs it.
@Suite struct ComparisonCommandTests {
  private static let model = Fixtures.path("models/opt-mini")
  private static let goldens = model + "/goldens.safetensors"

  private static func arguments(_ folder: String, _ options: [String]) -> [String] {
    [
      "compare", model, "-o", folder, "--ids", goldens, "--tensor", "test_ids", "--context", "128", "--windows", "2",
      "--calibration-ids", goldens, "--calibration-tensor", "calibration_ids",
    ] + options
  }

  private static func compare(_ folder: String, _ options: String...) throws -> Tool.Outcome {
    try Tool.finish(Tool.process(arguments(folder, options)))
  }

  private static func results(_ folder: String) throws -> [JSONValue] {
    let text = try String(contentsOfFile: folder + "/results.json", encoding: .utf8)
    return try #require(JSONValue.parse(text)["rows"]?.array)
  }

  /// A row is what `convert` with its options and `eval` give by hand.
  @Test func aRowIsARealConversion() throws {
    try withTemporaryFolder { folder in
      let outcome = try Self.compare(
        folder + "/c", "--methods", "osplus,activations=symmetric,best", "--settings",
        "w6a8/weights:symmetric,5.5bpwa8", "--embedding-bits", "16", "--exclude", "layers.1.fc2", "--json")
      #expect(outcome.status == 0, "\(outcome.errors)")
      let rows = try Self.results(folder + "/c")
      #expect(rows.count == 4)
      #expect(try JSONValue.parse(outcome.output)["rows"]?.array == rows)
      for (index, row) in rows.enumerated() {
        let options = try #require(row["options"]?.array).compactMap { $0.string }
        let file = "\(folder)/\(index).otq"
        let converted = try Tool.finish(
          Tool.process(
            ["convert", Self.model, file, "--json"] + options))
        #expect(converted.status == 0, "\(converted.errors)")
        let evaluated = try Tool.run(
          "eval", file, "--ids", Self.goldens, "--tensor", "test_ids", "--context", "128", "--windows", "2",
          "--against",
          Self.model, "--json")
        let (own, other) = (try JSONValue.parse(converted.output), try JSONValue.parse(evaluated.output))
        let figures = try #require(row["figures"])
        #expect(figures["byteCount"] == own["byteCount"])
        #expect(figures["linearBitsPerWeight"]?.double == own["linearBitsPerWeight"]?.double)
        #expect(figures["perplexity"]?.double == other["perplexity"]?.double)
        #expect(figures["perplexityRatio"]?.double == other["against"]?["perplexityRatio"]?.double)
        #expect(figures["klMean"]?.double == other["against"]?["klMean"]?.double)
        #expect(figures["top1Agreement"]?.double == other["against"]?["top1Agreement"]?.double)
      }
    }
  }

  /// Killed when its first row is there, the run goes on with the others.
  @Test func aKilledRunGoesOn() throws {
    try withTemporaryFolder { folder in
      let options = [
        "--methods", "per-token,hadamard,outliertune,smoothquant,best", "--settings", "w8a8,w6a8", "--quiet",
      ]
      func rows() -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: folder + "/rows")) ?? []).filter {
          $0.hasSuffix(".json")
        }
      }
      let process = Tool.process(Self.arguments(folder, options))
      process.standardError = FileHandle.nullDevice
      process.standardOutput = FileHandle.nullDevice
      try process.run()
      // The source's figures, then a row's.
      while process.isRunning, rows().count < 2 { usleep(2000) }
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
      let before = rows()
      #expect(before.count >= 2)
      let contentsBefore = try before.map { try contents("\(folder)/rows/\($0)") }
      let outcome = try Self.compare(folder, options[0], options[1], options[2], options[3], options[4])
      #expect(outcome.status == 0, "\(outcome.errors)")
      #expect(rows().count == 11)
      // What was there holds seconds that another run would not have had.
      for (name, bytes) in zip(before, contentsBefore) { #expect(try contents("\(folder)/rows/\(name)") == bytes) }
      let results = try Self.results(folder)
      #expect(results.count == 10 && results.allSatisfy { $0["figures"]?["klMean"]?.double != nil })
      let left = try FileManager.default.contentsOfDirectory(atPath: folder)
      #expect(Set(left) == [".lock", "rows", "index.html", "results.json", "table.md"])
    }
  }

  /// Parts make rows beside each other; the same command without one makes none, and puts the table together.
  @Test func partsMakeTheRows() throws {
    try withTemporaryFolder { folder in
      let options = ["--methods", "per-token", "--settings", "w8a8,w6a8,w4a8"]
      let shared = folder + "/shared"
      let processes = [["--part", "1"], []].map { part in
        Tool.process(
          Self.arguments(shared, options + part + ["--of", "2", "--quiet"]),
          environment: ["SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "2"])
      }
      for process in processes { try process.run() }
      for process in processes {
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
      }
      #expect(!FileManager.default.fileExists(atPath: shared + "/index.html"))
      let rows = try FileManager.default.contentsOfDirectory(atPath: shared + "/rows").sorted()
      #expect(rows.count == 4)
      for path in [shared, folder + "/one"] {
        let outcome = try Tool.finish(Tool.process(Self.arguments(path, options)))
        #expect(outcome.status == 0, "\(outcome.errors)")
        #expect(outcome.errors.contains("row 1") == (path != shared), "\(outcome.errors)")
      }
      #expect(try FileManager.default.contentsOfDirectory(atPath: shared + "/rows").sorted() == rows)
      let (parts, one) = (try Self.results(shared), try Self.results(folder + "/one"))
      #expect(parts.count == 3 && one.count == 3)
      for (part, row) in zip(parts, one) {
        for figure in ["byteCount", "perplexity", "klMean", "kl99thPercentile", "top1Agreement"] {
          #expect(part["figures"]?[figure] == row["figures"]?[figure], "\(figure)")
        }
      }
      let wrong = try Tool.finish(Tool.process(Self.arguments(shared, options + ["--part", "3", "--of", "2"])))
      #expect(wrong.status == 64)
    }
  }

  @Test func whatCannotBeHadIsARow() throws {
    try withTemporaryFolder { folder in
      var outcome = try Self.compare(
        folder, "--methods", "osplus,per-token", "--settings", "w8a8/group:32", "--sites", "--peer", "Other=1MB,0.01")
      #expect(outcome.status == 0, "\(outcome.errors)")
      #expect(outcome.errors.contains("osplus w8a8/group:32: ") && outcome.errors.contains("[method-activations]"))
      let page = ParsedPage(try String(contentsOfFile: folder + "/index.html", encoding: .utf8))
      #expect(page.fault == nil && page.brokenLinks.isEmpty)
      #expect(page.texts.contains("Other") && page.ids.contains("row-2"))
      #expect(try String(contentsOfFile: folder + "/table.md", encoding: .utf8).contains("[method-activations]"))
      let sites = try #require(try Self.results(folder)[1]["figures"]?["sites"]?.array)
      #expect(sites.count == 16)
      outcome = try Self.compare(folder, "--methods", "osplus", "--settings", "w8a8/group:32")
      #expect(outcome.status == 1 && outcome.errors.contains("[compare-no-rows]"), "\(outcome.errors)")
    }
  }

  /// A row's tasks are those of `eval`; `verify` has both models' figures and the flips.
  @Test func tasksAreDoneByEveryModel() throws {
    try withTemporaryFolder { folder in
      let data = folder + "/multiple_choice.jsonl"
      let questions = [
        ("The dog ran after the", ["ball", "of"], 0), ("She went to the shop to", ["the", "buy bread"], 1),
        ("It rained all day, so the streets were", ["wet", "seven"], 0),
        ("He was born in the", ["year", "quickly"], 0),
      ]
      var text = ""
      for (context, choices, answer) in questions {
        let line: JSONObject = [
          "context": .string(context), "choices": .array(choices.map { .string($0) }), "answer": .integer(answer),
        ]
        text += JSONValue.object(line).text() + "\n"
      }
      try text.write(toFile: data, atomically: true, encoding: .utf8)
      let outcome = try Self.compare(
        folder + "/c", "--methods", "per-token", "--settings", "w4a4", "--task", "multiple_choice", "--data", data,
        "--keep-files")
      #expect(outcome.status == 0, "\(outcome.errors)")
      let task = try #require(try Self.results(folder + "/c")[0]["figures"]?["tasks"]?.array?.first)
      let files = try FileManager.default.contentsOfDirectory(atPath: folder + "/c/files")
      let file = try #require(files.first)
      let packed = "\(folder)/c/files/\(file)"
      let evaluated = try Tool.run(
        "eval", packed, "--task", "multiple_choice", "--data", data, "--against", Self.model, "--json")
      let other = try JSONValue.parse(evaluated.output)
      let figure = try #require(task["figures"]?.array?.first)
      let name = try #require(figure["name"]?.string)
      #expect(figure["value"]?.double == other["figures"]?[name]?["value"]?.double && other["itemCount"]?.integer == 4)
      let page = folder + "/r.html"
      let verified = try Tool.run(
        "verify", packed, "--reference", Self.model, "--task", "multiple_choice", "--data", data, "--report", page,
        "--json")
      #expect(verified.status == 0, "\(verified.errors)")
      let finding = try #require(try JSONValue.parse(verified.output)["tasks"]?.array?.first)
      #expect(finding["figures"]?[name]?["packed"]?.double == figure["value"]?.double)
      #expect(finding["gained"] == other["against"]?["gained"] && finding["lost"] == other["against"]?["lost"])
      let parsed = ParsedPage(try String(contentsOfFile: page, encoding: .utf8))
      #expect(parsed.fault == nil && parsed.ids.contains("tasks"))
      // Data that are wrong are refused before anything is converted.
      try "{}\n".write(toFile: data, atomically: true, encoding: .utf8)
      let refused = try Self.compare(folder + "/d", "--task", "multiple_choice", "--data", data)
      #expect(refused.status == 1 && refused.errors.contains("[task-data-"), "\(refused.errors)")
    }
  }

  @Test func wrongUsage() throws {
    try withTemporaryFolder { folder in
      for options in [
        ["--settings", "w9a8"], ["--methods", "nothing"], ["--methods", "best,alpha=2"], ["--methods", "best,best"],
        ["--preset", "osplus-llm", "--methods", "best"], ["--preset", "other"], ["--peer", "x"], ["--task", "piqa"],
      ] {
        let outcome = try Tool.finish(Tool.process(Self.arguments(folder + "/c", options)))
        #expect(outcome.status == 64, "\(options): \(outcome.errors)")
      }
      let nothing = try Tool.run("compare", Self.model, "-o", folder + "/c")
      #expect(nothing.status == 64)
      #expect(!FileManager.default.fileExists(atPath: folder + "/c"))
      try Data().write(to: URL(fileURLWithPath: folder + "/file"))
      let file = try Self.compare(folder + "/file")
      #expect(file.status == 1 && file.errors.contains("[compare-folder]"), "\(file.errors)")
    }
  }

  /// The page in its colours, no wider than its window.
  @Test func thePageInABrowser() throws {
    guard let browser = Browser() else {
      print("the page is not looked at: no Chromium is installed (scripts/bootstrap tests)")
      return
    }
    try withTemporaryFolder { folder in
      let outcome = try Self.compare(
        folder, "--methods", "outliertune,osplus", "--settings", "w8a8,w6a6", "--sites", "--peer", "Other=1.2MB,0.01")
      #expect(outcome.status == 0, "\(outcome.errors)")
      let page = folder + "/index.html"
      for (isDark, colours) in [(false, [0xF6F7F9, 0xFFFFFF, 0x2A66C4]), (true, [0x12151A, 0x1A1F26, 0x79ACFF])] {
        let picture = try browser.screenshot(of: page, width: 1280, height: 1600, isDark: isDark, in: folder)
        let area = picture.width * picture.height
        let counts = colours.map { picture.counts[UInt32($0)] ?? 0 }
        #expect(counts[0] > area / 10 && counts[1] > area / 5 && counts[2] > 100, "dark \(isDark): \(counts)")
      }
      for width in [360, 768, 1280] {
        #expect(try browser.layoutWidth(of: page, in: width, folder: folder) <= width)
      }
    }
  }
}
