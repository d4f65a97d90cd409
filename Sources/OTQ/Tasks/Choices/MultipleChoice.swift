/// Anyone's own questions.
struct MultipleChoice: ChoiceTask {
  let name = "multiple_choice"
  let summary = "Questions of one's own, with choices"
  let fields = "context, choices, answer (the index of the right one, from 0)"

  /// A space stands between the context and a choice.
  func item(_ record: TaskRecord) throws -> ChoiceItem {
    let choices = try record.texts("choices")
    return ChoiceItem(
      try record.text("context"), choices: choices, gold: try record.label("answer", count: choices.count))
  }
}
