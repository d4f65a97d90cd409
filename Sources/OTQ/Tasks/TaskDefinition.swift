import OTFoundation

/// How a task reads its data, asks a model, and makes figures of the answers. A new one is a file with a type, and a
/// line in `TaskRegistry`.
protocol TaskDefinition: Sendable {
  /// The name by which it is asked for.
  var name: String { get }
  /// What it measures, in one line.
  var summary: String { get }
  /// The fields or columns of its data.
  var fields: String { get }
  /// True when the model continues a text.
  var needsCausalModel: Bool { get }
  /// True when it is a perplexity, whose windows can be chosen.
  var hasWindows: Bool { get }
  /// The texts that are scored, item by item; empty for a model that continues no texts.
  ///
  /// - Throws: `Refusal` with a rule `task-data-…`.
  func requests(_ data: TaskData, limit: Int?) throws -> [[LikelihoodRequest]]
  /// Does it.
  ///
  /// - Throws: `Refusal` with a rule `task-data-…`, or as running the model throws.
  func evaluate(_ run: TaskRun) throws -> TaskResult
}

extension TaskDefinition {
  var needsCausalModel: Bool { true }
  var hasWindows: Bool { false }
  func requests(_ data: TaskData, limit: Int?) throws -> [[LikelihoodRequest]] { [] }
}

/// The tasks that there are.
enum TaskRegistry {
  static let definitions: [any TaskDefinition] =
    [
      PIQA(), HellaSwag(), WinoGrande(), ARC(name: "arc_easy"), ARC(name: "arc_challenge"), COPA(), StoryCloze(),
      MultipleChoice(),
      LAMBADA(name: "lambada_openai"), LAMBADA(name: "lambada_standard"), Perplexity.wikiText, Perplexity.texts,
    ] + GLUE.tasks + [SentenceSimilarity()]
}

/// A task being done.
struct TaskRun {
  let model: LanguageModel
  let data: TaskData
  /// The most items.
  let limit: Int?
  let windows: TaskWindows
  /// Is told how many items are done, of how many.
  let progress: (Int, Int) throws -> Void
}

/// The windows of a perplexity.
struct TaskWindows: Sendable {
  /// The most tokens of a window; nil: as many as the model reads.
  var context: Int?
  /// Tokens from the beginning of a window to that of the next; nil: each document has its own windows.
  var stride: Int?
}

/// What a task gives, before the time is known.
struct TaskResult {
  let figures: [TaskFigure]
  let items: [TaskItem]
}
