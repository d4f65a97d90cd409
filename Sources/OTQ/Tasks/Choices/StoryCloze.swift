/// The right end of a story of four sentences (Mostafazadeh et al., arXiv 1604.01696).
struct StoryCloze: ChoiceTask {
  let name = "storycloze"
  let summary = "StoryCloze: which of two sentences ends a story"
  let fields = "InputSentence1 … 4, RandomFifthSentenceQuiz1, 2, AnswerRightEnding (1, 2)"

  /// The columns of the published table, or the fields of the same data elsewhere.
  func item(_ record: TaskRecord) throws -> ChoiceItem {
    let sentences = try (1...4).map { try record.text("InputSentence\($0)", "input_sentence_\($0)") }
    return ChoiceItem(
      sentences.joined(separator: " "),
      choices: try (1...2).map { try record.text("RandomFifthSentenceQuiz\($0)", "sentence_quiz\($0)") },
      gold: try record.label("AnswerRightEnding", "answer_right_ending", count: 2, first: 1))
  }
}
