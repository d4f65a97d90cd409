import OTFoundation

/// A question, the texts whose likelihood answers it, and the right one.
struct ChoiceItem {
  /// A text to score for each choice.
  let requests: [LikelihoodRequest]
  /// The choices as the data have them: their lengths count.
  let choices: [String]
  /// The index of the right choice.
  let gold: Int

  /// Choices after one context, a space between.
  init(_ context: String, choices: [String], gold: Int) {
    requests = choices.map { LikelihoodRequest(context: context, continuation: " " + $0) }
    self.choices = choices
    self.gold = gold
  }

  /// One text after several contexts, which have the choices in them.
  init(contexts: [String], continuation: String, gold: Int) {
    requests = contexts.map { LikelihoodRequest(context: $0, continuation: " " + continuation) }
    choices = contexts
    self.gold = gold
  }
}

/// A task of questions with choices: the model chooses that whose text is likeliest.
protocol ChoiceTask: TaskDefinition {
  /// The question of an item.
  ///
  /// - Throws: `Refusal` with a rule `task-data-…`.
  func item(_ record: TaskRecord) throws -> ChoiceItem
}

extension ChoiceTask {
  func requests(_ data: TaskData, limit: Int?) throws -> [[LikelihoodRequest]] {
    try data.records(limit: limit).map { try question($0).requests }
  }

  private func question(_ record: TaskRecord) throws -> ChoiceItem {
    let question = try item(record)
    if let index = question.choices.firstIndex(where: \.isEmpty) {
      throw record.refusal("task-data-choice", "has an empty choice, number \(index + 1)")
    }
    return question
  }

  func questions(_ run: TaskRun) throws -> TaskQuestions {
    try run.model.checkContinuesTexts()
    let records = try run.data.records(limit: run.limit)
    let questions = try records.map(question)
    let items = zip(records, questions).map { record, question in
      TaskSource(line: record.line, gold: question.gold, lengths: question.choices.map(HarnessText.length))
    }
    return TaskQuestions(items: items) { share in
      try run.model.likelihoods(
        of: questions.map(\.requests), records: records, share: share, progress: run.progress
      ).map { $0?.map(\.logProbability) }
    }
  }

  func canAnswer(_ source: TaskSource, _ answers: [[Double]]) -> Bool {
    answers.map(\.count) == [source.lengths.count] && source.lengths.indices.contains(source.gold ?? -1)
  }

  /// `acc`, the share of items whose right choice has the greatest log-likelihood, and `acc_norm`, the same of
  /// log-likelihoods divided by the numbers of characters (code points) of the choices.
  func result(_ items: [(source: TaskSource, answers: [[Double]])], threadCount: Int) throws -> TaskResult {
    let items = items.map { source, answers in
      var item = TaskItem(source, scores: answers[0])
      item.chosen = TaskStatistics.firstGreatest(item.scores)
      item.chosenByLength = TaskStatistics.firstGreatest(zip(item.scores, source.lengths).map { $0 / Double($1) })
      item.isRight = item.chosen == item.gold
      return item
    }
    return TaskResult(
      figures: [
        .mean("acc", items.map { $0.isRight == true ? 1 : 0 }),
        .mean("acc_norm", items.map { $0.chosenByLength == $0.gold ? 1 : 0 }),
      ], items: items)
  }
}
