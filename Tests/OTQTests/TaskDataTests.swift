import Foundation
import OTFoundation
import OTQ
import Testing
import _OTModelSupport
import _OTTestSupport

/// Data that are not as a task's should be, and layouts that are.
@Suite struct TaskDataTests {
  /// A bad file: its name, its contents, the task, the rule, and what the message says.
  struct Bad: Sendable, CustomStringConvertible {
    let task: String
    let name: String
    let contents: [UInt8]
    let rule: String
    let words: String

    init(_ task: String, _ name: String, _ text: String, _ rule: String, _ words: String) {
      self.init(task, name, Array(text.utf8), rule, words)
    }

    init(_ task: String, _ name: String, _ contents: [UInt8], _ rule: String, _ words: String) {
      (self.task, self.name, self.contents, self.rule, self.words) = (task, name, contents, rule, words)
    }

    var description: String { "\(task): \(words)" }
  }

  private static let piqa = #"{"goal": "g", "sol1": "a", "sol2": "b", "label": 0}"# + "\n"

  /// A good line, and one with a byte that is a letter in Latin-1.
  private static let latin1: [UInt8] = Array((piqa + "{\"goal\": \"caf?\"}").utf8).map { $0 == 0x3F ? 0xE9 : $0 }

  private static func utf16(isMarked: Bool) -> [UInt8] {
    var bytes: [UInt8] = isMarked ? [0xFF, 0xFE] : []
    for byte in piqa.utf8 { bytes += isMarked ? [byte, 0] : [0, byte] }
    return bytes
  }

  static let bad: [Bad] = [
    Bad("piqa", "e.jsonl", "", "task-data-empty", "empty"),
    Bad("piqa", "e.jsonl", " \n\n", "task-data-empty", "empty"),
    Bad("piqa", "e.tsv", "goal\tsol1\n", "task-data-empty", "no items"),
    Bad(
      "piqa", "f.jsonl", piqa + #"{"goal": "g", "sol1": "a", "label": 0}"#, "task-data-field",
      "line 2 has no field 'sol2'"),
    Bad(
      "piqa", "f.jsonl", piqa + "\n" + #"{"goal": 3, "sol1": "a", "sol2": "b", "label": 0}"#, "task-data-field",
      "line 3 has no text under 'goal'"),
    Bad(
      "piqa", "l.jsonl", piqa.replacing("0", with: "2"), "task-data-label", "line 1 has '2' under 'label', not 0 to 1"),
    Bad("piqa", "l.jsonl", piqa.replacing("0", with: "\"x\""), "task-data-label", "has 'x'"),
    Bad("piqa", "j.jsonl", piqa + "{\"goal\": ", "task-data-json", "line 2"),
    Bad("piqa", "j.jsonl", piqa + "[1]", "task-data-json", "line 2 is no object"),
    Bad("piqa", "t.txt", piqa, "task-data-layout", "plain text"),
    Bad(
      "piqa", "c.jsonl", piqa.replacing("\"b\"", with: "\"\""), "task-data-choice",
      "line 1 has an empty choice, number 2"),
    // Latin-1 and UTF-16, with and without its mark.
    Bad(
      "piqa", "u.jsonl", latin1, "task-data-encoding", "line 2 is not UTF-8"),
    Bad("piqa", "u.jsonl", utf16(isMarked: true), "task-data-encoding", "line 1 is UTF-16"),
    Bad("piqa", "u.jsonl", utf16(isMarked: false), "task-data-encoding", "line 1 is UTF-16"),
    Bad(
      "hellaswag", "h.jsonl", #"{"activity_label": "a", "ctx_a": "b", "ctx_b": "c", "endings": ["x"], "label": 0}"#,
      "task-data-field", "list of two texts"),
    Bad(
      "hellaswag", "h.jsonl",
      #"{"activity_label": "a", "ctx_a": "b", "ctx_b": "c", "endings": ["x", "y"], "label": "2"}"#, "task-data-label",
      "not 0 to 1"),
    Bad(
      "winogrande", "w.jsonl", #"{"sentence": "no gap", "option1": "a", "option2": "b", "answer": "1"}"#,
      "task-data-field", "has no gap"),
    Bad(
      "winogrande", "w.jsonl", #"{"sentence": "a _ b", "option1": "a", "option2": "b", "answer": ""}"#,
      "task-data-label", "not 1 to 2"),
    Bad(
      "arc_easy", "a.jsonl",
      #"{"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "C"}"#, "task-data-label",
      "'C' under 'answerKey'"),
    Bad(
      "arc_easy", "a.jsonl", #"{"question": "q", "choices": {"text": ["a", "b"], "label": ["A"]}, "answerKey": "A"}"#,
      "task-data-field", "no choices"),
    Bad(
      "copa", "c.jsonl", #"{"premise": "p.", "choice1": "a", "choice2": "b", "question": "why", "label": 0}"#,
      "task-data-label", "'why' under 'question'"),
    Bad(
      "storycloze", "s.csv", "InputSentence1,InputSentence2\na,b,c\n", "task-data-columns",
      "line 2 has 3 columns, the first line 2"),
    Bad("storycloze", "s.csv", "InputSentence1,InputSentence2\n\"a,b\nc,d\n", "task-data-quotes", "line 2 has a quote"),
    Bad(
      "storycloze", "s.csv", "InputSentence1,InputSentence2\na,b\n", "task-data-field",
      "no column 'InputSentence3' or 'input_sentence_3'"),
    Bad("lambada_openai", "l.jsonl", #"{"text": "word"}"#, "task-data-field", "line 1 has no last word"),
    Bad("lambada_standard", "l.txt", "two words\nends with a space \n", "task-data-field", "line 2 has no last word"),
    Bad("cola", "c.tsv", "own\t1\t\tGood.\nown\t0\t*\n", "task-data-columns", "line 2 has 3 columns, 4 are expected"),
    Bad("cola", "c.tsv", "own\tyes\t\tGood.\n", "task-data-label", "line 1 has 'yes'"),
    Bad("perplexity", "p.jsonl", #"{"text": ""}"#, "task-data-empty", "line 1 has an empty text"),
  ]

  @Test(arguments: bad) func isRefused(_ bad: Bad) throws {
    let model = try LanguageModel(
      path: bad.task == "cola" ? Fixtures.path("models/bert-classifier-mini") : Fixture.llama.folder, threadCount: 1)
    try withTemporaryFolder { folder in
      let path = folder + "/" + bad.name
      try Data(bad.contents).write(to: URL(fileURLWithPath: path))
      let task = try EvaluationTask.named(bad.task)
      do {
        _ = try model.evaluate(task, data: path)
        Issue.record("\(bad) is not refused")
      } catch let error as Refusal {
        #expect(error.rule == bad.rule, "\(error)")
        #expect(error.message.contains(bad.words), "\(error)")
        #expect(error.file == path)
      }
    }
  }

  /// The texts of tasks from a file of these contents.
  private func requests(_ task: String, _ name: String, _ text: String, limit: Int? = nil) throws
    -> [[LikelihoodRequest]]
  {
    try withTemporaryFolder { folder in
      try Data(text.utf8).write(to: URL(fileURLWithPath: folder + "/" + name))
      return try EvaluationTask.named(task).requests(data: folder + "/" + name, limit: limit)
    }
  }

  /// Marks of byte order, line ends of Windows, blank lines and numbers as text are read over.
  @Test func whatDoesNotMatter() throws {
    let plain = try requests("piqa", "a.jsonl", Self.piqa + Self.piqa)
    #expect(plain.count == 2)
    let other = Self.piqa.replacing("0", with: "\"0\"").replacing("\n", with: "\r\n")
    #expect(try requests("piqa", "a.jsonl", "\u{FEFF}" + other + "\r\n\r\n" + other) == plain)
    #expect(try requests("piqa", "a", Self.piqa + Self.piqa) == plain)
    #expect(try requests("piqa", "a.tsv", "sol2\tgoal\tlabel\tsol1\nb\tg\t0\ta\nb\tg\t1\ta\n") == plain)
    #expect(try requests("piqa", "a.jsonl", Self.piqa + "{", limit: 1).count == 1)
  }

  /// Quotes, commas and line ends in cells of a table between commas.
  @Test func quotedCells() throws {
    let head =
      "InputStoryid,InputSentence1,InputSentence2,InputSentence3,InputSentence4,RandomFifthSentenceQuiz1,"
      + "RandomFifthSentenceQuiz2,AnswerRightEnding\n"
    let found = try requests(
      "storycloze", "s.csv", head + "x,\"One, two.\",\"He said \"\"three\"\".\",\"Four\nfive.\",Six.,Seven.,Eight.,2\n")
    #expect(found.count == 1)
    #expect(found[0][0].context == "One, two. He said \"three\". Four\nfive. Six.")
    #expect(found[0].map(\.continuation) == [" Seven.", " Eight."])
  }

  /// Data as AI2 publishes them.
  @Test func nestedQuestions() throws {
    let found = try requests(
      "arc_challenge", "a.jsonl",
      #"{"question": {"stem": "Why?", "choices": [{"text": "so", "label": "1"}, {"text": "no", "label": "2"}]}, "answerKey": "2"}"#
    )
    #expect(found[0].map(\.context) == ["Question: Why?\nAnswer:", "Question: Why?\nAnswer:"])
    #expect(found[0].map(\.continuation) == [" so", " no"])
  }

  @Test func unknownTasksAndWindows() throws {
    #expect(try refusedRule { _ = try EvaluationTask.named("boolq") } == "task-unknown")
    let piqa = try EvaluationTask.named("piqa")
    #expect(try refusedRule { _ = try piqa.withWindows(stride: 3) } == "task-windows")
    let perplexity = try EvaluationTask.named("perplexity")
    #expect(try refusedRule { _ = try perplexity.withWindows(context: 8, stride: 9) } == "task-windows")
    #expect(try refusedRule { _ = try perplexity.withWindows(context: 1) } == "task-windows")
  }
}
