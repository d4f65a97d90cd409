import OTFoundation
import OTRuntime
import OTVerify

/// STS-B by the cosines of the sentences' vectors, for a model of embeddings.
struct SentenceSimilarity: TaskDefinition {
  let name = "stsb_embeddings"
  let summary = "STS-B by embeddings: how alike two sentences are, by the cosine of their vectors"
  let fields = "sentence1, sentence2, score or label (a number)"
  let needsCausalModel = false

  func evaluate(_ run: TaskRun) throws -> TaskResult {
    let records = try run.data.records(limit: run.limit)
    let pairs = try records.map { [try $0.text(["sentence1"]), try $0.text(["sentence2"])] }
    let targets = try records.map { try $0.number(["score", "label"]) }
    let vectors = try run.model.embeddings(of: pairs.flatMap { $0 }) { try run.progress($0 / 2, records.count) }.vectors
    let items = records.indices.map { index in
      var item = TaskItem(
        line: records[index].line, scores: [cosine(vectors[2 * index], vectors[2 * index + 1])])
      item.target = targets[index]
      return item
    }
    let cosines = items.flatMap(\.scores)
    return TaskResult(
      figures: [
        TaskFigure("pearson", TaskStatistics.pearson(cosines, targets)),
        TaskFigure("spearman", TaskStatistics.spearman(cosines, targets)),
      ], items: items)
  }
}
