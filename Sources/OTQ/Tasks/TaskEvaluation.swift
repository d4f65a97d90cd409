import OTFoundation
import OTJSON

/// What a model makes of a task and, where there is one, another that it is compared with.
package struct TaskEvaluation: Sendable {
  /// The model's.
  package let outcome: TaskOutcome
  /// With that of the reference; nil: there is none.
  package let comparison: TaskComparison?

  /// Has the models do a task, one after the other.
  ///
  /// - Parameters:
  ///   - path: the data.
  ///   - limit: the most items; nil: all.
  ///   - reference: asked for when the model is done, so that not both need memory from the start.
  ///   - progress: called for each model; gives what is told how many items are done, of how many.
  /// - Throws: `Refusal` as `LanguageModel.evaluate`, and what the functions throw.
  package init(
    _ task: EvaluationTask, data path: String, limit: Int?, of model: LanguageModel,
    against reference: () throws -> LanguageModel? = { nil }, progress: () -> WorkObserver.Progress
  ) throws {
    let outcome = try model.evaluate(task, data: path, limit: limit, observing: progress())
    self.outcome = outcome
    comparison = try reference().map { other in
      try TaskComparison(
        outcome, reference: other.evaluate(task, data: path, limit: limit, observing: progress()))
    }
  }

  /// Has the models answer a share of a task's questions.
  ///
  /// - Returns: what the part's file holds.
  /// - Throws: as `init`.
  package static func part(
    _ share: WorkShare, _ task: EvaluationTask, data path: String, limit: Int?, of model: LanguageModel,
    against reference: () throws -> LanguageModel? = { nil }, progress: () -> WorkObserver.Progress
  ) throws -> JSONObject {
    func answers(_ model: LanguageModel) throws -> JSONValue {
      try model.answers(to: task, data: path, limit: limit, share: share, observing: progress()).json
    }
    var content: JSONObject = [
      "task": .string(task.name), "data": .string(path), "answers": try answers(model),
    ]
    content["reference"] = try reference().map(answers)
    return content
  }

  /// Parts of tasks.
  package static let partKind = PartFile.Kind("task", rule: "task-part", command: "eval")

  /// What one machine would have made of the task; the seconds are those of all together.
  ///
  /// - Throws: as `PartFile.inOrder`, or `Refusal` with rule `task-part`.
  package init(_ parts: [PartFile], threadCount: Int) throws {
    let parts = try PartFile.inOrder(parts)
    let first = parts[0]
    let (task, data) = (try EvaluationTask.named(first.value("task", \.string)), try first.value("data", \.string))
    func merged(_ key: String) throws -> TaskOutcome {
      let answers = try parts.map { try $0.value(key, TaskAnswers.init) }
      guard let all = TaskAnswers.merged(answers) else {
        throw first.damaged("its items are not those of the other parts")
      }
      return try all.outcome(of: task, data: data, threadCount: threadCount)
    }
    let outcome = try merged("answers")
    self.outcome = outcome
    comparison =
      try first.content["reference"].map { _ in try TaskComparison(outcome, reference: merged("reference")) }
  }

  /// What `otconvert eval --task --json` prints: the outcome, with `against` beside it.
  package var json: JSONObject {
    var members = outcome.json
    if let comparison { members["against"] = .object(comparison.json) }
    return members
  }
}
