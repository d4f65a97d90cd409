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

  /// `perplexity` of the last words, exp of the mean of −ln p, and `acc`, the share of those all of whose tokens are
  /// the likeliest ones. The standard error of the perplexity is drawn as lm-eval draws it.
  func evaluate(_ run: TaskRun) throws -> TaskResult {
    try run.model.checkContinuesTexts()
    let (records, requests) = try passages(run.data, limit: run.limit)
    let likelihoods = try run.model.likelihoods(of: requests.map { [$0] }, records: records, progress: run.progress)
    let items = zip(records, likelihoods).map { record, likelihoods in
      var item = TaskItem(line: record.line, scores: likelihoods.map(\.logProbability))
      item.isRight = likelihoods.allSatisfy(\.isGreedy)
      return item
    }
    let losses = items.flatMap { $0.scores.map { -$0 } }
    return TaskResult(
      figures: [
        .mean("acc", items.map { $0.isRight == true ? 1 : 0 }),
        TaskFigure(
          "perplexity", exp(TaskStatistics.mean(losses)),
          standardError: try TaskStatistics.drawnErrorOfPerplexity(
            losses, threadCount: run.model.executor.threadCount),
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
