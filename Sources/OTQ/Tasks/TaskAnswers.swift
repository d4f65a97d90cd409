import OTFoundation
import OTJSON

/// A model's answers to the questions of a task, or to those of one of several parts.
struct TaskAnswers: Sendable {
  /// The model's path.
  let model: String
  /// All items of the task, in order.
  let items: [TaskSource]
  /// The numbers that answer each question of each item, in order; nil where another part has them.
  let answers: [[Double]?]
  /// Seconds that it took.
  let seconds: Double

  /// What the model makes of the task.
  ///
  /// - Throws: `Refusal` with rule `task-part` where questions have no answer, or one that cannot be.
  func outcome(of task: EvaluationTask, data: String, threadCount: Int) throws -> TaskOutcome {
    var rest = answers.compactMap { $0 }[...]
    let answered = items.map { source in
      defer { rest = rest.dropFirst(source.questionCount) }
      return (source: source, answers: Array(rest.prefix(source.questionCount)))
    }
    guard answers.allSatisfy({ $0 != nil }), answered.allSatisfy({ task.definition.canAnswer($0.source, $0.answers) })
    else {
      throw Refusal("task-part", "questions of '\(task.name)' have no answer, or none that can be", file: model)
    }
    let result = try task.definition.result(answered, threadCount: threadCount)
    return TaskOutcome(
      task: task.name, data: data, model: model, figures: result.figures, items: result.items, seconds: seconds)
  }

  // MARK: In the file of a part

  /// More are in no data: what a damaged file says is not taken for memory.
  fileprivate static let maximumQuestionCount = 1 << 24

  /// The answers as a part's file has them.
  var json: JSONValue {
    let own = answers.indices.filter { answers[$0] != nil }
    let numbers = own.compactMap { answers[$0] }
    return .object([
      "model": .string(model), "seconds": .number(seconds), "items": .array(items.map(\.json)),
      "questions": .bits(of: own.map { Int64($0) }), "counts": .bits(of: numbers.map { Int64($0.count) }),
      "numbers": .bits(of: Array(numbers.joined())),
    ])
  }

  /// Reads answers; nil where they are damaged.
  init?(_ json: JSONValue) {
    guard let model = json["model"]?.string, let seconds = json["seconds"]?.double,
      let items = json["items"]?.list(TaskSource.init), let own = json["questions"]?.bits(as: Int64.self),
      let counts = json["counts"]?.bits(as: Int64.self), let numbers = json["numbers"]?.bits(as: Double.self),
      own.count == counts.count
    else { return nil }
    let questionCount = items.reduce(0) { $0 + $1.questionCount }
    guard questionCount <= Self.maximumQuestionCount else { return nil }
    var answers = [[Double]?](repeating: nil, count: questionCount)
    var rest = numbers[...]
    for (question, count) in zip(own, counts) {
      guard answers.indices.contains(Int(question)), (0...rest.count).contains(Int(count)) else { return nil }
      answers[Int(question)] = Array(rest.prefix(Int(count)))
      rest = rest.dropFirst(Int(count))
    }
    guard rest.isEmpty else { return nil }
    self.init(model: model, items: items, answers: answers, seconds: seconds)
  }

  init(model: String, items: [TaskSource], answers: [[Double]?], seconds: Double) {
    (self.model, self.items, self.answers, self.seconds) = (model, items, answers, seconds)
  }

  /// The answers of all parts; nil where they are not of the same items.
  static func merged(_ parts: [TaskAnswers]) -> TaskAnswers? {
    guard let first = parts.first, parts.allSatisfy({ $0.items == first.items }) else { return nil }
    let answers = first.answers.indices.map { question in parts.lazy.compactMap { $0.answers[question] }.first }
    return TaskAnswers(
      model: first.model, items: first.items, answers: answers, seconds: parts.reduce(0) { $0 + $1.seconds })
  }
}

extension TaskSource {
  /// A list, since there are many: line, right choice, value, questions, lengths.
  fileprivate var json: JSONValue {
    .array(
      [
        .integer(line), gold.map { .integer($0) } ?? .null, target.map { .number($0) } ?? .null,
        .integer(questionCount),
      ]
        + lengths.map { .integer($0) })
  }

  fileprivate init?(_ json: JSONValue) {
    guard let list = json.array, list.count >= 4, let line = list[0].integer, let questionCount = list[3].integer,
      (0...TaskAnswers.maximumQuestionCount).contains(questionCount),
      let lengths = JSONValue.array(Array(list[4...])).list(\.integer),
      lengths.allSatisfy((0...1 << 40).contains)
    else { return nil }
    self.init(
      line: line, gold: list[1].integer, target: list[2].double, lengths: lengths, questionCount: questionCount)
  }
}
