/// A file of questions, and the task whose rules they follow.
package struct QuestionFile: Sendable, Hashable {
  /// The task's name.
  package let task: String
  /// The file.
  package let path: String

  /// The task and the file of `TASK=FILE`, or of a file alone: the task that it is called after (`piqa.jsonl`), or
  /// else questions of the general form, `context`, `choices` and `answer`.
  package init(_ text: String) {
    let names = Set(EvaluationTask.all.map(\.name))
    if let mark = text.firstIndex(of: "="), names.contains(String(text[..<mark])) {
      (task, path) = (String(text[..<mark]), String(text[text.index(after: mark)...]))
      return
    }
    let stem = text.split(separator: "/").last?.split(separator: ".").first.map(String.init) ?? ""
    (task, path) = (names.contains(stem) ? stem : "multiple_choice", text)
  }
}
