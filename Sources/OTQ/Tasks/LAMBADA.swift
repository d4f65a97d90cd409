import OTFoundation
import OTPlatform

/// The last word of a passage, which only the whole passage tells (Paperno et al., arXiv 1606.06031).
///
/// `lambada_openai` and `lambada_standard` differ in their data alone: OpenAI's keep capitals and punctuation.
struct LAMBADA: TaskDefinition {
  let name: String
  var summary: String {
    "LAMBADA, \(name == "lambada_openai" ? "OpenAI's form" : "the original form"): the last word of a passage"
  }
  let fields = "text; or a passage a line"

  /// A passage is answered by ln p of its last word, and 1 where all its tokens are the likeliest ones, else 0.
  func questions(_ run: TaskRun) throws -> TaskQuestions {
    try run.model.checkContinuesTexts()
    let (records, requests) = try passages(run.data, limit: run.limit)
    return TaskQuestions(items: records.map { TaskSource(line: $0.line) }) { share in
      try run.model.likelihoods(
        of: requests.map { [$0] }, records: records, share: share, progress: run.progress
      ).map { $0?.flatMap { [$0.logProbability, $0.isGreedy ? 1 : 0] } }
    }
  }

  func canAnswer(_ source: TaskSource, _ answers: [[Double]]) -> Bool { answers.map(\.count) == [2] }

  /// `perplexity` of the last words, exp of the mean of −ln p, and `acc`, the share of those all of whose tokens are
  /// the likeliest ones. The standard error of the perplexity is drawn as lm-eval draws it.
  func result(_ items: [(source: TaskSource, answers: [[Double]])], threadCount: Int) throws -> TaskResult {
    let items = items.map { source, answers in
      var item = TaskItem(source, scores: [answers[0][0]])
      item.isRight = answers[0][1] == 1
      return item
    }
    let losses = items.map { -$0.scores[0] }
    return TaskResult(
      figures: [
        .mean("acc", items.map { $0.isRight == true ? 1 : 0 }),
        TaskFigure(
          "perplexity", exp(TaskStatistics.mean(losses)),
          standardError: try TaskStatistics.drawnErrorOfPerplexity(losses, threadCount: threadCount),
          higherIsBetter: false),
      ], items: items)
  }

  func requests(_ data: TaskData, limit: Int?) throws -> [[LikelihoodRequest]] {
    try passages(data, limit: limit).requests.map { [$0] }
  }

  private func passages(
    _ data: TaskData, limit: Int?
  ) throws -> (records: [TaskRecord], requests: [LikelihoodRequest]) {
    let texts = try data.lineTexts(field: "text", limit: limit)
    let records = texts.map { TaskRecord(file: data.path, line: $0.line, content: .object([:])) }
    let requests = try zip(texts, records).map { text, record in
      let words = text.text.unicodeScalars.split(separator: " ", omittingEmptySubsequences: false)
      guard let last = words.last, words.count > 1, !last.isEmpty else {
        throw record.refusal("task-data-field", "has no last word after others")
      }
      return LikelihoodRequest(
        context: words.dropLast().map { String($0) }.joined(separator: " "), continuation: " " + String(last))
    }
    return (records, requests)
  }
}
