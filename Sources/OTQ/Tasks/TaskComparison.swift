import OTFoundation
import OTJSON

/// Two models on the same items, such as a packed file and its source: how many answers became right or wrong.
public struct TaskComparison: Sendable {
  /// The model that is judged.
  public let outcome: TaskOutcome
  /// The model that it is compared with.
  public let reference: TaskOutcome
  /// Items that both have right.
  public let bothRightCount: Int
  /// Items that both have wrong.
  public let bothWrongCount: Int
  /// Items that the model has right and the reference wrong.
  public let gainedCount: Int
  /// Items that the reference has right and the model wrong.
  public let lostCount: Int
  /// Items of whose choices or labels the two choose different ones, right or wrong.
  public let changedCount: Int

  /// Compares two outcomes of one task.
  ///
  /// - Throws: ``Refusal`` with rule `task-comparison` when they are not of the same items.
  public init(_ outcome: TaskOutcome, reference: TaskOutcome) throws(Refusal) {
    guard outcome.task == reference.task, outcome.items.map(\.line) == reference.items.map(\.line),
      zip(outcome.items, reference.items).allSatisfy({ $0.gold == $1.gold && $0.target == $1.target })
    else {
      throw Refusal("task-comparison", "the outcomes are not of the same items of the same task")
    }
    self.outcome = outcome
    self.reference = reference
    let flips = TaskStatistics.Flips(outcome.items.map(\.isRight), reference: reference.items.map(\.isRight))
    (bothRightCount, bothWrongCount) = (flips.bothRight, flips.bothWrong)
    (gainedCount, lostCount) = (flips.gained, flips.lost)
    changedCount = zip(outcome.items, reference.items).count { $0.chosen != $1.chosen }
  }

  /// True when items are right or wrong, so that answers can flip.
  public var hasAnswers: Bool { bothRightCount + bothWrongCount + gainedCount + lostCount > 0 }

  /// The probability that chance alone makes a difference as large, if both models were equally good (McNemar's test,
  /// exact form): with b gained and c lost, n = b + c, it is min(1, 2·Σ C(n, k)/2ⁿ over k = 0 … min(b, c)). Nil where
  /// nothing is right or wrong.
  public var mcNemarP: Double? {
    hasAnswers ? TaskStatistics.mcNemarP(gained: gainedCount, lost: lostCount) : nil
  }

  /// The model's primary figure less the reference's.
  public var difference: Double { outcome.primary.value - reference.primary.value }

  /// The comparison as a JSON object: `reference` (as ``TaskOutcome/jsonText(includesItems:)``), `difference`,
  /// `bothRight`, `bothWrong`, `gained`, `lost`, `changed`, `mcNemarP`.
  public var jsonText: String { JSONValue.object(json).text(pretty: true) }

  /// The comparison without the items.
  package var json: JSONObject {
    var members: JSONObject = ["reference": .object(reference.json), "difference": .finite(difference)]
    if hasAnswers {
      members["bothRight"] = .integer(bothRightCount)
      members["bothWrong"] = .integer(bothWrongCount)
      members["gained"] = .integer(gainedCount)
      members["lost"] = .integer(lostCount)
      members["changed"] = .integer(changedCount)
      members["mcNemarP"] = .finite(mcNemarP)
    }
    return members
  }
}
