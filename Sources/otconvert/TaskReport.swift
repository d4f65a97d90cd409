import OTFoundation
import OTJSON
import OTQ

/// What `eval --task` writes: of one model or two that do a task.
struct TaskReport {
  /// A file for the items; nil: none.
  let itemsOut: String?
  let force: Bool
  /// Files that must not be replaced.
  let inputs: [FileIdentity]
  let messages: OutputArguments

  /// The tasks for `--help`, a line each.
  static var listing: String {
    let width = EvaluationTask.all.map(\.name.count).max() ?? 0
    return EvaluationTask.all.map { task in
      "  " + task.name + String(repeating: " ", count: width - task.name.count + 2) + task.summary
    }.joined(separator: "\n")
  }

  /// Writes what was done, after `evaluate` has: before that, that it can be written is checked.
  ///
  /// - Throws: as `evaluate`, or `Refusal` of the file to write.
  func write(_ evaluate: () throws -> TaskEvaluation) throws {
    // Before time goes into what cannot be written.
    if let itemsOut { try AtomicFile.check([itemsOut], force: force, inputs: inputs) }
    let done = try evaluate()
    let (outcome, comparison) = (done.outcome, done.comparison)
    if let itemsOut {
      var text = ""
      for (index, item) in outcome.items.enumerated() {
        var members = item.json
        if let reference = comparison?.reference { members["reference"] = .object(reference.items[index].json) }
        text += JSONValue.object(members).text(pretty: false) + "\n"
      }
      let file = try AtomicFile(path: itemsOut, force: force, inputs: inputs)
      try file.append(text.utf8)
      try file.commit()
    }
    try messages.result(
      ([lines(outcome)] + (comparison.map { [lines($0)] } ?? [])).joined(separator: "\n"), json: .object(done.json))
  }

  private func lines(_ outcome: TaskOutcome) -> String {
    var lines = outcome.figures.map { row($0.name, text($0)) }
    lines.append(row("items", "\(outcome.items.count) of \(outcome.task)"))
    lines.append(row("speed", "\(fixed(outcome.itemsPerSecond, 1)) items/s"))
    return lines.joined(separator: "\n")
  }

  private func lines(_ comparison: TaskComparison) -> String {
    let reference = comparison.reference
    var lines = [row("against", Refusal.printable(reference.model))]
    lines += reference.figures.map { row("  " + $0.name, text($0)) }
    guard let p = comparison.mcNemarP else { return lines.joined(separator: "\n") }
    let flips = "\(comparison.gainedCount) to right, \(comparison.lostCount) to wrong"
    lines.append(row("flips", "\(flips); \(comparison.changedCount) answers changed"))
    lines.append(row("McNemar's p", fixed(p, 4)))
    return lines.joined(separator: "\n")
  }

  private func row(_ name: String, _ value: String) -> String {
    name + String(repeating: " ", count: max(1, 15 - name.count)) + value
  }

  private func text(_ figure: TaskFigure) -> String {
    fixed(figure.value, 4) + (figure.standardError.map { " ± " + fixed($0, 4) } ?? "")
  }
}
