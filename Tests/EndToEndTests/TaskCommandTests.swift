import Foundation
import OTFoundation
import OTJSON
import OTQ
import Testing
import _OTTestSupport

/// `eval --task`, as a user runs it.
@Suite struct TaskCommandTests {
  private static let model = Fixtures.path("models/llama-mini")
  private static let questions = Fixtures.path("tasks/multiple_choice.jsonl")

  @Test func twoModelsSideBySide() throws {
    try withTemporaryFolder { folder in
      let file = folder + "/model.otq"
      #expect(try Tool.run(Self.model, file, "--quiet", "--no-calibration").status == 0)
      let items = folder + "/items.jsonl"
      let arguments = [
        "eval", file, "--task", "multiple_choice", "--data", Self.questions, "--limit", "12", "--against", Self.model,
        "--items-out", items,
      ]
      let outcome = try Tool.finish(Tool.process(arguments + ["--json"]))
      #expect(outcome.status == 0, "\(outcome.errors)")
      let json = try JSONValue.parse(outcome.output)
      #expect(json["task"]?.string == "multiple_choice" && json["itemCount"]?.integer == 12)
      #expect(json["primary"]?.string == "acc")
      let accuracy = try #require(json["figures"]?["acc"]?["value"]?.double)
      let reference = try #require(json["against"]?["reference"]?["figures"]?["acc"]?["value"]?.double)
      let lines = try String(contentsOfFile: items, encoding: .utf8).split(separator: "\n")
      let written = try lines.map { try JSONValue.parse(String($0)) }
      #expect(written.map { $0["line"]?.integer } == (1...12).map { $0 })
      #expect(written.count { $0["right"]?.bool == true } == Int((accuracy * 12).rounded()))
      #expect(written.count { $0["reference"]?["right"]?.bool == true } == Int((reference * 12).rounded()))
      let gained = written.count { $0["right"]?.bool == true && $0["reference"]?["right"]?.bool == false }
      #expect(json["against"]?["gained"]?.integer == gained)
      #expect((0...1).contains(try #require(json["against"]?["mcNemarP"]?.double)))

      // The items are not replaced unasked.
      let again = try Tool.finish(Tool.process(arguments))
      #expect(again.status == 1 && again.output.isEmpty)
      let text = try Tool.finish(Tool.process(arguments + ["--force"]))
      for word in ["acc ", "acc_norm", "items/s", "against", "flips", "McNemar's p"] {
        #expect(text.output.contains(word), "\(word): \(text.output)")
      }
    }
  }

  /// One line with the file, the line number and the rule, and nothing written.
  @Test func badDataAreOneLine() throws {
    try withTemporaryFolder { folder in
      let (data, items) = (folder + "/a.jsonl", folder + "/items.jsonl")
      let good = #"{"context": "In the", "choices": ["beginning", "end"], "answer": 0}"#
      try (good + "\n" + good.replacing("0", with: "7") + "\n").write(toFile: data, atomically: true, encoding: .utf8)
      let outcome = try Tool.run(
        "eval", Self.model, "--task", "multiple_choice", "--data", data, "--items-out", items)
      #expect(outcome.status == 1 && outcome.output.isEmpty)
      #expect(outcome.errorLines.count == 1)
      #expect(outcome.errors.contains(data + ": line 2 ") && outcome.errors.contains("[task-data-label]"))
      #expect(!FileManager.default.fileExists(atPath: items))
    }
  }

  @Test func perplexityByStride() throws {
    let outcome = try Tool.run(
      "eval", Self.model, "--task", "perplexity", "--data", Fixtures.path("tasks/perplexity.jsonl"), "--stride", "64",
      "--context", "128", "--limit", "5", "--json")
    #expect(outcome.status == 0, "\(outcome.errors)")
    let value = try JSONValue.parse(outcome.output)["figures"]?["perplexity"]?["value"]?.double
    // The library's, which `TaskTests` compares with windows cut by hand.
    let task = try EvaluationTask.named("perplexity").withWindows(context: 128, stride: 64)
    let expected = try LanguageModel(path: Self.model, threadCount: 1).evaluate(
      task, data: Fixtures.path("tasks/perplexity.jsonl"), limit: 5)
    #expect(abs(try #require(value) / expected.primary.value - 1) < 1e-6)
  }

  private static let classifier = Fixtures.path("models/bert-classifier-mini")

  /// Parts put together, in any order, are the report and the items of one machine but for the time, whatever answers a
  /// question: choices, a word, windows of documents and of one text, labels, vectors. More parts than questions do no harm.
  @Test(arguments: [
    ("multiple_choice", ["multiple_choice.jsonl", "--against", "float"], 3),
    ("lambada_openai", ["lambada_openai.jsonl"], 2),
    ("perplexity", ["perplexity.jsonl", "--context", "48"], 2), ("wikitext", ["wikitext.txt", "--stride", "40"], 3),
    ("cola", ["cola.tsv"], 2), ("stsb_embeddings", ["stsb.tsv"], 2), ("piqa", ["piqa.jsonl", "--limit", "2"], 7),
  ])
  func partsAreThoseOfOneMachine(_ task: String, _ data: [String], _ count: Int) throws {
    try withTemporaryFolder { folder in
      let encodes = ["cola", "stsb_embeddings"].contains(task)
      let (file, items, record) = (folder + "/model.otq", folder + "/items.jsonl", folder + "/eval.json")
      // An encoder in float32, whose sums depend on what is multiplied together.
      if !encodes { #expect(try Tool.run(Self.model, file, "--quiet", "--no-calibration").status == 0) }
      let options =
        ["eval", encodes ? Self.classifier : file, "--task", task, "--data", Fixtures.path("tasks/" + data[0])]
        + data.dropFirst().map { $0 == "float" ? Self.model : $0 }
      func json(_ arguments: [String]) throws -> JSONObject {
        let outcome = try Tool.finish(Tool.process(arguments + ["--json"]))
        #expect(outcome.status == 0, "\(outcome.errors)")
        var json = try #require(try JSONValue.parse(outcome.output).object)
        (json["seconds"], json["itemsPerSecond"]) = (nil, nil)
        if var against = json["against"]?.object, var reference = against["reference"]?.object {
          (reference["seconds"], reference["itemsPerSecond"]) = (nil, nil)
          against["reference"] = .object(reference)
          json["against"] = .object(against)
        }
        return json
      }
      let one = try json(options + ["--items-out", items])
      for part in 1...count {
        let threads = "\(1 + part % 2)"
        _ = try json(options + ["-o", record, "--part", "\(part)", "--of", "\(count)", "--threads", threads])
      }
      let parts = (1...count).reversed().map { record + ".part-\($0)" }
      #expect(try json(["eval", "--merge"] + parts + ["--items-out", items + "2"]) == one)
      #expect(try contents(items + "2") == contents(items))

      func refused(_ rule: String, _ files: [String]) throws {
        let outcome = try Tool.finish(Tool.process(["eval", "--merge"] + files))
        #expect(outcome.status == 1 && outcome.errors.contains("[\(rule)]"), "\(outcome.errors)")
      }
      try refused("merge-part-missing", Array(parts.dropFirst()))
      // An answer is missing, or has other numbers.
      let part = try #require(try JSONValue.parse(contentsOf: MappedFile(path: parts[0])).object)
      let answers = try #require(part["answers"]?.object)
      for (key, value) in [("questions", JSONValue.string("")), ("numbers", .string("AAAAAAAAAAA="))] {
        var (changed, own) = (part, answers)
        own[key] = value
        if key == "questions" { (own["counts"], own["numbers"]) = (value, value) }
        changed["answers"] = .object(own)
        try JSONValue.object(changed).text().write(toFile: record + ".changed", atomically: true, encoding: .utf8)
        // With more parts than questions some have none.
        if answers[key]?.string != "" { try refused("task-part", [record + ".changed"] + parts.dropFirst()) }
      }
      _ = try json(
        options.filter { $0 != "--limit" && $0 != "2" } + [
          "--limit", "1", "-o", record, "--part", "1", "--of", "\(count)", "--force",
        ])
      try refused("merge-other-plan", parts)
      for wrong in [["--items-out", items], ["--data", "-"]] {
        #expect(try Tool.finish(Tool.process(options + ["--of", "2", "-o", record] + wrong)).status == 64, "\(wrong)")
      }
    }
  }

  @Test func classesOfTokensHaveAllFigures() throws {
    let folder = Fixtures.path("models/bert-classifier-mini")
    let outcome = try Tool.run(
      "eval", folder, "--ids", folder + "/goldens.safetensors", "--tensor", "test_input_ids", "--json")
    #expect(outcome.status == 0, "\(outcome.errors)")
    let json = try JSONValue.parse(outcome.output)
    let reference = try JSONValue.parse(contentsOf: MappedFile(path: folder + "/reference.json"))
    for name in ["accuracy", "matthews", "f1"] {
      let (found, wanted) = (try #require(json[name]?.double), try #require(reference[name]?.double))
      #expect(abs(found - wanted) < 1e-9, "\(name)")
    }
  }

  @Test(arguments: [
    ["--task", "piqa"], ["--data", "x.jsonl"], ["--task", "piqa", "--data", "x", "--text", "y"],
    ["--task", "piqa", "--data", "x", "--limit", "0"], ["--text", "x", "--limit", "3"],
    ["--task", "piqa", "--data", "x", "--windows", "3"], ["--ids", "x", "--items-out", "y"],
  ])
  func wrongUsage(_ options: [String]) throws {
    #expect(try Tool.finish(Tool.process(["eval", Self.model] + options)).status == 64)
  }

  @Test func unknownTasksAreNamed() throws {
    let outcome = try Tool.run("eval", Self.model, "--task", "boolq", "--data", "x.jsonl")
    #expect(outcome.status == 1 && outcome.errors.contains("[task-unknown]") && outcome.errors.contains("piqa"))
    let help = try Tool.run("eval", "--help")
    #expect(help.output.contains("hellaswag") && help.output.contains("--items-out"))
  }
}
