/// Physical common sense: which of two solutions reaches a goal (Bisk et al., arXiv 1911.11641).
struct PIQA: ChoiceTask {
  let name = "piqa"
  let summary = "PIQA: which of two solutions reaches a goal"
  let fields = "goal, sol1, sol2, label (0, 1)"

  func item(_ record: TaskRecord) throws -> ChoiceItem {
    ChoiceItem(
      "Question: \(try record.text("goal"))\nAnswer:", choices: [try record.text("sol1"), try record.text("sol2")],
      gold: try record.label("label", count: 2))
  }
}
