import OTFoundation
import OTRuntime
import OTVerify

/// STS-B by the cosines of the sentences' vectors, for a model of embeddings.
struct SentenceSimilarity: TaskDefinition {
  let name = "stsb_embeddings"
  let summary = "STS-B by embeddings: how alike two sentences are, by the cosine of their vectors"
  let fields = "sentence1, sentence2, score or label (a number)"
  let needsCausalModel = false

  /// Each sentence is a question, answered by its vector.
  func questions(_ run: TaskRun) throws -> TaskQuestions {
    let records = try run.data.records(limit: run.limit)
    let sentences = try records.flatMap { [try $0.text(["sentence1"]), try $0.text(["sentence2"])] }
    let items = try records.map {
      TaskSource(line: $0.line, target: try $0.number(["score", "label"]), questionCount: 2)
    }
    return TaskQuestions(items: items) { share in
      try run.model.embeddings(of: sentences, share: share) { try run.progress($0 / 2, $1 / 2) }
        .vectors.map { $0.isEmpty ? nil : $0.map(Double.init) }
    }
  }

  func canAnswer(_ source: TaskSource, _ answers: [[Double]]) -> Bool { answers.count == 2 && source.target != nil }

  func result(_ items: [(source: TaskSource, answers: [[Double]])], threadCount: Int) throws -> TaskResult {
    let items = items.map { source, answers in
      let vectors = answers.map { $0.map { Float($0) } }
      return TaskItem(source, scores: [cosine(vectors[0], vectors[1])])
    }
    let (cosines, targets) = (items.map { $0.scores[0] }, items.compactMap(\.target))
    return TaskResult(
      figures: [
        TaskFigure("pearson", TaskStatistics.pearson(cosines, targets)),
        TaskFigure("spearman", TaskStatistics.spearman(cosines, targets)),
      ], items: items)
  }
}
