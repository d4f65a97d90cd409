/// The likeliest end of a scene (Zellers et al., arXiv 1905.07830).
struct HellaSwag: ChoiceTask {
  let name = "hellaswag"
  let summary = "HellaSwag: which of four endings follows a scene"
  let fields = "activity_label, ctx_a and ctx_b (or ctx), endings, label"

  /// The scene is the activity, then both parts of the context, the second with a capital letter. Where the data have
  /// only `ctx`, which is both parts joined, it stands as it is.
  func item(_ record: TaskRecord) throws -> ChoiceItem {
    let context: String
    if record.value("ctx_a") != nil || record.value("ctx") == nil {
      context = try record.text("ctx_a") + " " + HarnessText.capitalize(record.text("ctx_b"))
    } else {
      context = try record.text("ctx")
    }
    let activity = record.value("activity_label") == nil ? "" : try record.text("activity_label") + ": "
    let endings = try record.texts("endings")
    return ChoiceItem(
      Self.clean(activity + context), choices: endings.map(Self.clean),
      gold: try record.label("label", count: endings.count))
  }

  /// The text without what WikiHow's pages leave in it.
  static func clean(_ text: String) -> String {
    let text = HarnessText.replace(HarnessText.strip(text), " [title]", ". ")
    return HarnessText.replace(HarnessText.withoutBrackets(text), "  ", " ")
  }
}
