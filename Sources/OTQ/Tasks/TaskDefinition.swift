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
  /// Reads and checks all data, and makes of them what a model is asked.
  ///
  /// - Throws: `Refusal` with a rule `task-data-…` or `task-model`.
  func questions(_ run: TaskRun) throws -> TaskQuestions
  /// True when such numbers can answer an item's questions: the file of a part may have any.
  func canAnswer(_ source: TaskSource, _ answers: [[Double]]) -> Bool
  /// The figures of items that are answered.
  ///
  /// - Parameters:
  ///   - items: each with the numbers that answer its questions.
  ///   - threadCount: the result does not depend on it.
  func result(_ items: [(source: TaskSource, answers: [[Double]])], threadCount: Int) throws -> TaskResult
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

/// What the figures need of an item before a model has answered.
struct TaskSource: Sendable, Hashable {
  /// The line of the data that it begins on, from 1.
  let line: Int
  /// The choice or label that the data call right.
  var gold: Int?
  /// The value that the data have.
  var target: Double?
  /// Code points of each choice; words and bytes of a document; else nothing.
  var lengths: [Int] = []
  /// How many questions it asks, which come after those of the item before.
  var questionCount = 1
}

/// What a task asks a model.
struct TaskQuestions {
  /// The items, in the order of the data.
  let items: [TaskSource]
  /// Asks all questions, or a share of them. Gives the numbers that answer each; nil for what is not in the share.
  let answer: (WorkShare?) throws -> [[Double]?]
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
