import OTFoundation
import OTJSON

/// A number that a task gives.
public struct TaskFigure: Sendable, Hashable {
  /// The name that the field has for it: `acc`, `acc_norm`, `perplexity`, `mcc`, `f1`, `pearson`, `spearman`.
  public let name: String
  /// The number itself: a share is between 0 and 1.
  public let value: Double
  /// The standard deviation that it would have over other items of the same kind; nil where none is known.
  public let standardError: Double?
  /// True when more is better.
  public let higherIsBetter: Bool

  init(_ name: String, _ value: Double, standardError: Double? = nil, higherIsBetter: Bool = true) {
    self.name = name
    self.value = value
    self.standardError = standardError
    self.higherIsBetter = higherIsBetter
  }
}

/// An item of a task and what the model made of it.
public struct TaskItem: Sendable, Hashable {
  /// The line of the data that it begins on, from 1.
  public let line: Int
  /// Of choices, the natural logarithm of each one's probability; of a word or a document, that of its own; of labels,
  /// the model's output for each; of a value, the value.
  public internal(set) var scores: [Double]
  /// The choice or label with the greatest score, of equals the first; nil where there are none to choose from.
  public internal(set) var chosen: Int?
  /// The choice with the greatest score for each character; nil where lengths do not count.
  public internal(set) var chosenByLength: Int?
  /// The choice or label that the data call right.
  public internal(set) var gold: Int?
  /// The value that the data have, of a regression.
  public internal(set) var target: Double?
  /// True when the model is right, as the accuracy counts it; nil where nothing is right or wrong.
  public internal(set) var isRight: Bool?

  init(_ source: TaskSource, scores: [Double]) {
    (line, self.scores, gold, target) = (source.line, scores, source.gold, source.target)
  }
}

/// What a model makes of a task.
public struct TaskOutcome: Sendable {
  /// The task's name.
  public let task: String
  /// The file of the data, as it was given.
  public let data: String
  /// The model's file, as it was given.
  public let model: String
  /// The figures; the first is the one that the field compares.
  public let figures: [TaskFigure]
  /// The items in the order of the data.
  public let items: [TaskItem]
  /// Seconds that it took, reading the data not counted.
  public let seconds: Double

  /// Items in a second.
  public var itemsPerSecond: Double { Double(items.count) / max(seconds, 1e-9) }

  /// The figure that the field compares.
  public var primary: TaskFigure { figures[0] }

  /// The figure of a name; nil when there is none.
  public subscript(name: String) -> TaskFigure? { figures.first { $0.name == name } }

  /// The outcome as a JSON object: `model`, `task`, `data`, `itemCount`, `primary`, `figures` (name → `value`,
  /// `standardError`, `higherIsBetter`), `seconds`, `itemsPerSecond`, and `items` where they are asked for.
  public func jsonText(includesItems: Bool = false) -> String {
    var object = json
    if includesItems { object["items"] = .array(items.map { .object($0.json) }) }
    return JSONValue.object(object).text(pretty: true)
  }

  /// The outcome without its items.
  package var json: JSONObject {
    var figures = JSONObject()
    for figure in self.figures {
      figures[figure.name] = .object([
        "value": .finite(figure.value), "standardError": .finite(figure.standardError),
        "higherIsBetter": .bool(figure.higherIsBetter),
      ])
    }
    return [
      "model": .string(model), "task": .string(task), "data": .string(data), "itemCount": .integer(items.count),
      "primary": .string(primary.name), "figures": .object(figures), "seconds": .finite(seconds),
      "itemsPerSecond": .finite(itemsPerSecond),
    ]
  }
}

extension TaskItem {
  /// The item: `line`, `scores`, and of the rest what it has.
  package var json: JSONObject {
    var members: JSONObject = ["line": .integer(line), "scores": .array(scores.map { .finite($0) })]
    if let chosen { members["chosen"] = .integer(chosen) }
    if let chosenByLength { members["chosenByLength"] = .integer(chosenByLength) }
    if let gold { members["gold"] = .integer(gold) }
    if let target { members["target"] = .finite(target) }
    if let isRight { members["right"] = .bool(isRight) }
    return members
  }
}
