import ArgumentParser
import OTQ

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
    guard Set(compared.map(\.title)).count == task.count else {
      throw ValidationError("Two tasks would bear one name: give their data files of other names.")
    }
    guard limit ?? 1 > 0 else { throw ValidationError("--limit must be positive.") }
    guard limit == nil || !task.isEmpty else { throw ValidationError("--limit needs --task.") }
    try validated { for name in task { _ = try EvaluationTask.named(name) } }
    guard !data.contains("-") else { throw ValidationError("--data is read by every model, so it must be a file.") }
  }

  /// The tasks, in order.
  var compared: [ComparedTask] {
    zip(task, data).map { ComparedTask(name: $0, path: $1, limit: limit) }
  }
}
