/// The noun that a gap stands for (Sakaguchi et al., arXiv 1907.10641).
///
/// Partial evaluation: what follows the gap is scored after the sentence up to it with one noun or the other in it.
struct WinoGrande: ChoiceTask {
  let name = "winogrande"
  let summary = "WinoGrande: which of two nouns a gap stands for"
  let fields = "sentence (with _), option1, option2, answer (1, 2)"

  func item(_ record: TaskRecord) throws -> ChoiceItem {
    let sentence = try record.text("sentence")
    guard let gap = sentence.unicodeScalars.firstIndex(of: "_") else {
      throw record.refusal("task-data-field", "has no gap, _, in 'sentence'")
    }
    let before = String(sentence.unicodeScalars[..<gap])
    let after = String(sentence.unicodeScalars[sentence.unicodeScalars.index(after: gap)...])
    return ChoiceItem(
      contexts: [before + (try record.text("option1")), before + (try record.text("option2"))],
      continuation: HarnessText.strip(after), gold: try record.label("answer", count: 2, first: 1))
  }
}
