import OTConversion
import OTFoundation
import OTJSON
import OTModel

/// A task of the field that says what a model can do: questions with choices, a last word, labels of sentences,
/// perplexity.
///
/// ```swift
/// let model = try LanguageModel(path: "model.otq")
/// let outcome = try model.evaluate(.named("piqa"), data: "piqa.jsonl", limit: 200)
/// print(outcome.primary.value, outcome.primary.standardError ?? 0)
/// ```
///
/// Data are files on disk, laid out as the data sets are published. Prompts, scores and figures are those of the
/// package `lm-eval`; those of GLUE's tasks, of scikit-learn and SciPy.
public struct EvaluationTask: Sendable {
  let definition: any TaskDefinition
  /// Windows of a perplexity; see ``withWindows(context:stride:)``.
  var windows = TaskWindows()

  /// The name by which it is asked for: `piqa`.
  public var name: String { definition.name }
  /// What it measures, in one line.
  public var summary: String { definition.summary }
  /// The fields or columns that its data have.
  public var fields: String { definition.fields }
  /// True when a model answers it by continuing a text; false for encoders: classifiers and embeddings.
  public var needsCausalModel: Bool { definition.needsCausalModel }

  /// All tasks, in the order of the documentation.
  public static var all: [EvaluationTask] { TaskRegistry.definitions.map { EvaluationTask(definition: $0) } }

  /// The task of a name.
  ///
  /// - Throws: ``Refusal`` with rule `task-unknown`, which lists the names.
  public static func named(_ name: String) throws(Refusal) -> EvaluationTask {
    guard let definition = TaskRegistry.definitions.first(where: { $0.name == name }) else {
      let names = TaskRegistry.definitions.map(\.name).joined(separator: ", ")
      throw Refusal("task-unknown", "there is no task '\(name)'", remedy: "use one of \(names)")
    }
    return EvaluationTask(definition: definition)
  }

  /// The texts whose likelihood it asks for, item by item, to be looked at; empty for encoders.
  ///
  /// - Throws: `Refusal` as ``LanguageModel/evaluate(_:data:limit:progress:)`` for the data.
  package func requests(data path: String, limit: Int? = nil) throws -> [[LikelihoodRequest]] {
    try definition.requests(TaskData(path: path), limit: limit)
  }

  /// A digest of what decides about its figures beside the models.
  ///
  /// - Parameter counts: what tells the models apart.
  /// - Throws: as reading the data.
  package func identity(data path: String, limit: Int?, _ counts: [Int]) throws -> String {
    let members: JSONObject = [
      "task": .string(name), "context": .integer(windows.context ?? 0), "stride": .integer(windows.stride ?? 0),
      "data": .string(try FileRecord(of: MappedFile(path: path)).sha256), "limit": .integer(limit ?? 0),
      "counts": .array(counts.map { .integer($0) }),
    ]
    return try SHA256Digest.hex(of: Array(JSONValue.object(members).text().utf8))
  }

  /// The same task of perplexity with other windows.
  ///
  /// - Parameters:
  ///   - context: the most tokens that a prediction sees, and itself; nil: the model's limit.
  ///   - stride: nil: each document alone, in windows that follow one another. Else all documents as one text, an
  ///     empty line between them, in windows of `context` tokens that begin so many tokens apart; each token counts
  ///     once, in the first window that has it.
  /// - Throws: ``Refusal`` with rule `task-windows` for a task without windows, for numbers below 2 and 1, or for a
  ///   stride that leaves tokens out.
  public func withWindows(context: Int? = nil, stride: Int? = nil) throws(Refusal) -> EvaluationTask {
    guard definition.hasWindows else {
      throw Refusal("task-windows", "the task '\(name)' has no windows", remedy: "leave context and stride out")
    }
    guard context ?? 2 >= 2, stride ?? 1 >= 1, stride ?? 1 <= context ?? .max else {
      throw Refusal("task-windows", "a window has 2 tokens or more and begins at most its length after the last")
    }
    var task = self
    task.windows = TaskWindows(context: context, stride: stride)
    return task
  }
}

extension LanguageModel {
  /// Has the model do a task.
  ///
  /// All data are read and checked before anything is computed. What the choices of an item, or neighbouring items,
  /// begin with is run once; items go through the model together, the longest first.
  ///
  /// - Parameters:
  ///   - task: the task.
  ///   - path: the data: `.jsonl`, `.tsv`, `.csv` or `.txt`, either also `.gz` or `.zst`; `-` is standard input.
  ///   - limit: the most items, the first of the file; nil: all.
  ///   - progress: is told how many items are done, of how many.
  /// - Throws: ``Refusal`` with a rule `task-data-…` for data that are not as they should be, with the file and the
  ///   line; `task-model` for a model that cannot do the task; `text-…`, `tokenizer-…` or `run-…` as reading and
  ///   running throw.
  public func evaluate(
    _ task: EvaluationTask, data path: String, limit: Int? = nil, progress: ((_ done: Int, _ total: Int) -> Void)? = nil
  ) throws(Refusal) -> TaskOutcome {
    try evaluate(task, data: path, limit: limit) { progress?($0, $1) }
  }

  /// The same with an observer; what it throws ends the work.
  package func evaluate(
    _ task: EvaluationTask, data path: String, limit: Int? = nil,
    observing progress: @escaping (Int, Int) throws -> Void
  ) throws(Refusal) -> TaskOutcome {
    try refusing {
      try answers(to: task, data: path, limit: limit, observing: progress)
        .outcome(of: task, data: path, threadCount: executor.threadCount)
    }
  }

  /// The model's answers to a task's questions, or to a share of them, before figures are made of them.
  ///
  /// - Throws: as `evaluate`.
  func answers(
    to task: EvaluationTask, data path: String, limit: Int?, share: WorkShare? = nil,
    observing progress: @escaping (Int, Int) throws -> Void
  ) throws -> TaskAnswers {
    let run = TaskRun(
      model: self, data: try TaskData(path: path), limit: limit, windows: task.windows, progress: progress)
    let start = ContinuousClock.now
    let questions = try task.definition.questions(run)
    let answers = try questions.answer(share)
    return TaskAnswers(
      model: file.path, items: questions.items, answers: answers,
      seconds: (ContinuousClock.now - start) / .seconds(1))
  }
}
