import ArgumentParser
import OTFoundation
import OTProof
import OTQ
import OTVerify

/// Tasks that several models do.
struct TaskArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp("A task that every model does, on the --data of the same place (repeatable).", valueName: "name")
  )
  var task: [String] = []
  @Option(help: ArgumentHelp("The data of a --task (repeatable).", valueName: "file"), completion: .file())
  var data: [String] = []
  @Option(help: ArgumentHelp("The most items of each task.", valueName: "N")) var limit: Int?

  mutating func validate() throws {
    guard task.count == data.count else { throw ValidationError("Every --task needs its --data.") }
    guard limit ?? 1 > 0 else { throw ValidationError("--limit must be positive.") }
    guard limit == nil || !task.isEmpty else { throw ValidationError("--limit needs --task.") }
    guard !data.contains("-") else { throw ValidationError("--data is read by every model, so it must be a file.") }
  }

  /// The tasks, in order.
  ///
  /// - Throws: `Refusal` with rule `task-unknown`.
  var compared: [ComparedTask] {
    get throws {
      try zip(task, data).map { task, data in
        ComparedTask(name: try EvaluationTask.named(task).name, path: data, limit: limit)
      }
    }
  }

  /// What a packed model and its source make of the tasks.
  ///
  /// - Throws: as `LanguageModel.evaluate`.
  func findings(
    _ packed: LanguageModel, _ source: LanguageModel, _ messages: OutputArguments
  ) throws -> [TaskFinding] {
    try compared.map { compared in
      let task = try EvaluationTask.named(compared.name)
      func outcome(_ model: LanguageModel) throws -> TaskOutcome {
        let progress = messages.progress(task.name, unit: .items)
        return try model.evaluate(task, data: compared.path, limit: limit) { progress.update($0, $1) }
      }
      let comparison = try TaskComparison(outcome(packed), reference: outcome(source))
      return TaskFinding(
        task: task.name, data: compared.path.lastPathComponent, itemCount: comparison.outcome.items.count,
        figures: comparison.outcome.figures.compactMap { figure in
          comparison.reference[figure.name].map {
            .init(name: figure.name, packed: figure.value, source: $0.value, standardError: figure.standardError)
          }
        },
        flips: comparison.mcNemarP.map {
          .init(gained: comparison.gainedCount, lost: comparison.lostCount, changed: comparison.changedCount, p: $0)
        })
    }
  }
}
