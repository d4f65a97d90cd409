import OTJSON
import OTQ
import OTVerify

/// What was measured of a row's file, or of the source.
package struct RowFigures: Sendable {
  /// Bytes of the file; of a source those of the checkpoint.
  package var byteCount = 0
  /// Bits per weight of the blocks' linears on disk; nil of a source.
  package var linearBitsPerWeight: Double?
  /// Seconds from the opened model to the plan: running text, searching, rounding by what the network gives.
  package var calibrationSeconds: Double?
  /// Seconds that the rest of the conversion took.
  package var conversionSeconds: Double?
  /// Tokens that were run each second; nil where none were.
  package var tokensPerSecond: Double?
  /// exp of the mean loss of each next token; nil where the model does not continue text.
  package var perplexity: Double?
  /// The perplexity divided by the source's.
  package var perplexityRatio: Double?
  /// The ratio's standard error, tokens taken as independent.
  package var perplexityRatioStandardError: Double?
  /// The distance of the distributions from the source's.
  package var divergence: ModelFinding.Divergence?
  /// Cosines of outputs that are no scores.
  package var similarities: [ModelFinding.Similarity] = []
  /// Figures of tasks, in the order in which these were given.
  package var tasks: [TaskFigures] = []
  /// Errors of sites; empty unless asked for.
  package var sites: [SiteFigures] = []

  /// Nothing yet.
  package init() {}

  /// How far the outputs are from the source's: the mean KL divergence, else 1 − the least mean cosine.
  package var distance: Double? { divergence?.mean ?? similarities.map(\.mean).min().map { 1 - $0 } }
}

/// The figures of a task.
package struct TaskFigures: Sendable, Hashable {
  /// A figure.
  package struct Figure: Sendable, Hashable {
    /// Its name: `accuracy`.
    package let name: String
    /// Its value.
    package let value: Double
    /// Its standard error, where it has one.
    package let standardError: Double?

    /// A figure.
    package init(name: String, value: Double, standardError: Double?) {
      (self.name, self.value, self.standardError) = (name, value, standardError)
    }
  }

  /// The task and the name of its data: `piqa validation.jsonl`.
  package let name: String
  /// The first is the one that the field reports.
  package let figures: [Figure]
  /// `1` for each item that was answered right, `0` for a wrong one, `-` where nothing is right or wrong.
  package let answers: String

  /// Figures of a task.
  package init(name: String, figures: [Figure], answers: String) {
    (self.name, self.figures, self.answers) = (name, figures, answers)
  }

  /// Items that became right, and those that became wrong, beside another model's answers; nil where none can, or the
  /// items are others.
  package func flips(from other: TaskFigures) -> (gained: Int, lost: Int)? {
    guard answers.utf8.count == other.answers.utf8.count, answers.contains(where: { $0 != "-" }) else { return nil }
    func isRight(_ answer: Character) -> Bool? { answer == "-" ? nil : answer == "1" }
    let flips = TaskStatistics.Flips(answers.map(isRight), reference: other.answers.map(isRight))
    return (flips.gained, flips.lost)
  }
}

extension RowFigures {
  /// All figures.
  package var json: JSONValue {
    var members: JSONObject = ["byteCount": .integer(byteCount)]
    let numbers: [(String, Double?)] = [
      ("linearBitsPerWeight", linearBitsPerWeight), ("calibrationSeconds", calibrationSeconds),
      ("conversionSeconds", conversionSeconds), ("tokensPerSecond", tokensPerSecond), ("perplexity", perplexity),
      ("perplexityRatio", perplexityRatio), ("perplexityRatioStandardError", perplexityRatioStandardError),
    ]
    for (name, value) in numbers { members[name] = value.map(JSONValue.finite) }
    DistancesJSON(divergence: divergence, similarities: similarities).add(to: &members)
    if !tasks.isEmpty { members["tasks"] = .array(tasks.map(\.json)) }
    if !sites.isEmpty { members["sites"] = .array(sites.map(\.json)) }
    return .object(members)
  }

  /// The figures that `json` holds; nil when it holds none.
  package init?(json: JSONValue) {
    guard let byteCount = json["byteCount"]?.integer else { return nil }
    self.byteCount = byteCount
    linearBitsPerWeight = json["linearBitsPerWeight"]?.measured
    calibrationSeconds = json["calibrationSeconds"]?.measured
    conversionSeconds = json["conversionSeconds"]?.measured
    tokensPerSecond = json["tokensPerSecond"]?.measured
    perplexity = json["perplexity"]?.measured
    perplexityRatio = json["perplexityRatio"]?.measured
    perplexityRatioStandardError = json["perplexityRatioStandardError"]?.measured
    guard let distances = DistancesJSON(json) else { return nil }
    (divergence, similarities) = (distances.divergence, distances.similarities)
    let tasks = (json["tasks"]?.array ?? []).map(TaskFigures.init(json:))
    let sites = (json["sites"]?.array ?? []).map(SiteFigures.init(json:))
    guard !tasks.contains(where: { $0 == nil }), !sites.contains(where: { $0 == nil }) else { return nil }
    self.tasks = tasks.compactMap { $0 }
    self.sites = sites.compactMap { $0 }
  }
}

extension TaskFigures {
  /// `{name, answers, figures: [{name, value, standardError}]}`.
  package var json: JSONValue {
    .object([
      "name": .string(name), "answers": .string(answers),
      "figures": .array(
        figures.map { figure in
          var members: JSONObject = ["name": .string(figure.name), "value": .finite(figure.value)]
          if let error = figure.standardError { members["standardError"] = .finite(error) }
          return .object(members)
        }),
    ])
  }

  init?(json: JSONValue) {
    guard let name = json["name"]?.string, let answers = json["answers"]?.string, let list = json["figures"]?.array
    else {
      return nil
    }
    let figures = list.compactMap { figure -> Figure? in
      guard let name = figure["name"]?.string, let value = figure["value"]?.measured else { return nil }
      return Figure(name: name, value: value, standardError: figure["standardError"]?.measured)
    }
    guard figures.count == list.count else { return nil }
    self.init(name: name, figures: figures, answers: answers)
  }
}
