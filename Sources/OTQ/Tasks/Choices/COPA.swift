/// The cause of something, or its effect (Roemmele et al. 2011, as SuperGLUE has it).
struct COPA: ChoiceTask {
  let name = "copa"
  let summary = "COPA: which of two sentences is the cause or the effect"
  let fields = "premise, choice1, choice2, question (cause, effect), label (0, 1)"

  /// The premise without its full stop, joined to a choice by “because” or “therefore”. Choices begin with a space of
  /// their own beside the one that separates them, as in lm-eval.
  func item(_ record: TaskRecord) throws -> ChoiceItem {
    let connector: String
    switch try record.text("question") {
    case "cause": connector = "because"
    case "effect": connector = "therefore"
    case let other: throw record.refusal("task-data-label", "has '\(other)' under 'question', not cause or effect")
    }
    let premise = HarnessText.strip(try record.text("premise"))
    let choices = [try record.text("choice1"), try record.text("choice2")].map { choice in
      " " + (choice.unicodeScalars.first?.properties.lowercaseMapping ?? "")
        + String(String.UnicodeScalarView(choice.unicodeScalars.dropFirst()))
    }
    return ChoiceItem(
      String(String.UnicodeScalarView(premise.unicodeScalars.dropLast())) + " " + connector, choices: choices,
      gold: try record.label("label", count: 2))
  }
}
