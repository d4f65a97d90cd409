import OTFoundation
import OTRuntime

/// A task of GLUE (Wang et al., arXiv 1804.07461): sentences or pairs of them, and a label or a value of each, for a model
/// with a classifier of sequences.
///
/// Data are GLUE's tables, or lines of JSON with the fields of the same data at Hugging Face. Texts are cut where they are
/// longer than the model reads, the longer one first.
struct GLUE: TaskDefinition {
  /// The names that a text has: of the tables' columns, then of the fields.
  typealias Names = [String]

  let name: String
  let summary: String
  let first: Names
  /// Of the second of a pair; empty for single sentences.
  var second: Names = []
  let label: Names
  /// The labels' names in the order of their numbers; empty for a value.
  let labels: [String]
  /// The figures; the first is the one that GLUE reports.
  let figures: [Figure]
  /// The columns of a table that has no line with their names.
  var columns: [String]?

  enum Figure { case matthews, accuracy, f1, pearson, spearman }

  let needsCausalModel = false
  var fields: String {
    (([first, second].compactMap(\.last)) + [label.last ?? ""]).joined(separator: ", ")
      + (labels.isEmpty ? " (a number)" : " (" + labels.joined(separator: ", ") + ")")
  }

  /// The tasks of GLUE, but for WNLI, whose data are made to mislead.
  static let tasks: [GLUE] = [
    GLUE(
      name: "cola", summary: "CoLA: whether a sentence is good English", first: ["sentence"], label: ["label"],
      labels: ["unacceptable", "acceptable"], figures: [.matthews, .accuracy, .f1],
      columns: ["source", "label", "mark", "sentence"]),
    GLUE(
      name: "sst2", summary: "SST-2: whether a review is kind", first: ["sentence"], label: ["label"],
      labels: ["negative", "positive"], figures: [.accuracy, .f1, .matthews]),
    GLUE(
      name: "mrpc", summary: "MRPC: whether two sentences say the same", first: ["#1 String", "sentence1"],
      second: ["#2 String", "sentence2"], label: ["Quality", "label"], labels: ["not_equivalent", "equivalent"],
      figures: [.accuracy, .f1, .matthews]),
    GLUE(
      name: "qqp", summary: "QQP: whether two questions are the same", first: ["question1"], second: ["question2"],
      label: ["is_duplicate", "label"], labels: ["not_duplicate", "duplicate"], figures: [.accuracy, .f1, .matthews]),
    GLUE(
      name: "stsb", summary: "STS-B: how alike two sentences are, 0 to 5", first: ["sentence1"],
      second: ["sentence2"], label: ["score", "label"], labels: [], figures: [.pearson, .spearman]),
    inference("mnli", "MNLI, matched: whether one sentence follows from another"),
    inference("mnli_mismatched", "MNLI, mismatched: the same, of texts of other kinds"),
    GLUE(
      name: "qnli", summary: "QNLI: whether a sentence answers a question", first: ["question"],
      second: ["sentence"], label: ["label"], labels: ["entailment", "not_entailment"],
      figures: [.accuracy, .f1, .matthews]),
    GLUE(
      name: "rte", summary: "RTE: whether one sentence follows from another", first: ["sentence1"],
      second: ["sentence2"], label: ["label"], labels: ["entailment", "not_entailment"],
      figures: [.accuracy, .f1, .matthews]),
  ]

  private static func inference(_ name: String, _ summary: String) -> GLUE {
    GLUE(
      name: name, summary: summary, first: ["sentence1", "premise"], second: ["sentence2", "hypothesis"],
      label: ["gold_label", "label"], labels: ["entailment", "neutral", "contradiction"],
      figures: [.accuracy, .matthews])
  }

  /// A text or pair is answered by the model's output for each label.
  func questions(_ run: TaskRun) throws -> TaskQuestions {
    let model = run.model
    let records = try run.data.records(columns: run.data.layout == .tabs ? columns : nil, limit: run.limit)
    let texts = try records.map { record in
      (text: try record.text(first), pair: second.isEmpty ? nil : try record.text(second))
    }
    let items = try records.map { record in
      let target = try target(record)
      return labels.isEmpty
        ? TaskSource(line: record.line, target: target) : TaskSource(line: record.line, gold: Int(target))
    }
    let order = try labelOrder(of: model)
    return TaskQuestions(items: items) { share in
      try model.classifications(of: texts, share: share, progress: run.progress).map { result in
        let logits = result?.scores.sorted { $0.index < $1.index }.map { Double($0.logit) }
        return logits.map { logits in order.map { logits[$0] } }
      }
    }
  }

  func canAnswer(_ source: TaskSource, _ answers: [[Double]]) -> Bool {
    answers.map(\.count) == [max(labels.count, 1)]
      && (labels.isEmpty ? source.target != nil : labels.indices.contains(source.gold ?? -1))
  }

  func result(_ items: [(source: TaskSource, answers: [[Double]])], threadCount: Int) throws -> TaskResult {
    let items = items.map { source, answers in
      var item = TaskItem(source, scores: answers[0])
      if item.gold != nil {
        item.chosen = TaskStatistics.firstGreatest(item.scores)
        item.isRight = item.chosen == item.gold
      }
      return item
    }
    return TaskResult(figures: figures.map { $0.value(of: items) }, items: items)
  }

  /// The number of an item's label, or its value.
  private func target(_ record: TaskRecord) throws -> Double {
    if labels.isEmpty { return try record.number(label) }
    return Double(try record.label(label, count: labels.count, labels: labels))
  }

  /// The model's number of each label: by name, where the model names them all (`id2label`), else their own.
  ///
  /// - Throws: `Refusal` with rule `task-model` for a model with another number of labels.
  private func labelOrder(of model: LanguageModel) throws -> [Int] {
    let wanted = max(labels.count, 1)
    guard let node = model.graph.outputs["class_logits"], let count = model.graph.channelCount(of: node) else {
      throw Refusal(
        "task-model", "has no classifier of sequences, which the task asks for", file: model.file.path,
        remedy: "use a model whose config.json names an architecture such as BertForSequenceClassification")
    }
    guard count == wanted else {
      throw Refusal(
        "task-model", "has \(count) labels, the task \(wanted == 1 ? "a value" : "\(wanted)")", file: model.file.path,
        remedy: "use a model that was trained for the task")
    }
    let names = try model.file.model.json(.configuration)?["id2label"]
    let known = (0..<count).map { names?["\($0)"]?.string.map(Self.plain) }
    let order = labels.map { label in known.firstIndex { $0 == Self.plain(label) } }.compactMap { $0 }
    return order.count == wanted && Set(order).count == wanted ? order : Array(0..<count)
  }

  /// A label's name without what writers differ in.
  private static func plain(_ name: String) -> String {
    name.lowercased().filter { $0.isLetter || $0.isNumber }
  }
}

extension GLUE.Figure {
  fileprivate func value(of items: [TaskItem]) -> TaskFigure {
    let (golds, chosen) = (items.compactMap(\.gold), items.compactMap(\.chosen))
    let (targets, values) = (items.compactMap(\.target), items.compactMap(\.scores.first))
    switch self {
    case .matthews: return TaskFigure("mcc", TaskStatistics.matthews(golds, chosen))
    case .accuracy: return .mean("acc", items.map { $0.isRight == true ? 1 : 0 })
    case .f1: return TaskFigure("f1", TaskStatistics.f1(golds, chosen))
    case .pearson: return TaskFigure("pearson", TaskStatistics.pearson(values, targets))
    case .spearman: return TaskFigure("spearman", TaskStatistics.spearman(values, targets))
    }
  }
}
