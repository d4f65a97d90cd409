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

  /// What `otconvert eval --task --json` prints: the outcome, with `against` beside it.
  package var json: JSONObject {
    var members = outcome.json
    if let comparison { members["against"] = .object(comparison.json) }
    return members
  }
}
