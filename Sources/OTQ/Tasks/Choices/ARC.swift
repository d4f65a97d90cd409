import OTJSON

/// Questions of school science (Clark et al., arXiv 1803.05457), easy ones and hard ones.
struct ARC: ChoiceTask {
  let name: String
  var summary: String { "ARC, \(name == "arc_easy" ? "easy" : "challenge"): questions of school science" }
  let fields = "question, choices (text and label), answerKey"

  /// Choices are two lists, `text` and `label`, or as AI2 publishes them a list of objects under the question.
  func item(_ record: TaskRecord) throws -> ChoiceItem {
    let question: String
    let choices: (texts: [String?], labels: [String?])
    if let object = record.value("question")?.object {
      guard let stem = object["stem"]?.string else {
        throw record.refusal("task-data-field", "has no text under 'stem' of its question")
      }
      question = stem
      let list = object["choices"]?.array ?? []
      choices = (list.map { $0["text"]?.string }, list.map { $0["label"]?.string })
    } else {
      question = try record.text("question")
      let lists = record.value("choices")
      choices = (lists?["text"]?.array?.map(\.string) ?? [], lists?["label"]?.array?.map(\.string) ?? [])
    }
    let texts = choices.texts.compactMap { $0 }
    guard texts.count > 1, texts.count == choices.texts.count, choices.labels.count == texts.count else {
      throw record.refusal("task-data-field", "has no choices, each with a text and a label")
    }
    let key = try record.text("answerKey")
    guard let gold = choices.labels.firstIndex(of: key) else {
      throw record.refusal("task-data-label", "has '\(key)' under 'answerKey', which labels none of its choices")
    }
    return ChoiceItem("Question: \(question)\nAnswer:", choices: texts, gold: gold)
  }
}
