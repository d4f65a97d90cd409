import OTFoundation
import OTGraph
import OTJSON
import OTRuntime

/// The results of `eval`, gathered window by window.
package struct Evaluation {
  private let model: LanguageModel
  private let reference: LanguageModel?
  private let threadCount: Int
  /// The output that scores tokens or classes; nil: none.
  private let scores: String?
  /// The nodes that are run.
  private let wanted: [String]
  private var likelihood = TokenLikelihood()
  private var referenceLikelihood = TokenLikelihood()
  private var comparison = DistributionComparison()
  /// The classes of the windows whose class is known, and those that the model gave them.
  private var labels: [Int] = []
  private var chosenLabels: [Int] = []
  private var windowCount = 0
  private var tokenCount = 0
  private var seconds = 0.0

  /// - Parameters:
  ///   - reference: another model that it is compared with.
  ///   - nodes: nodes whose values are wanted of each window, beside the figures.
  /// - Throws: `Refusal` with rule `eval-no-logits` or `eval-vocabulary`.
  package init(_ model: LanguageModel, reference: LanguageModel?, nodes: [String] = [], threadCount: Int) throws {
    scores = Graph.scoreOutputs.first { model.graph.outputs[$0] != nil }
    guard scores != nil || !nodes.isEmpty else {
      throw Refusal("eval-no-logits", "gives no logits", file: model.file.path)
    }
    if let reference {
      let size = Evaluation.scoreCount(of: model, scores)
      let other = Evaluation.scoreCount(of: reference, scores)
      guard size == other else {
        throw Refusal(
          "eval-vocabulary",
          "gives \(size.map { "\($0) " } ?? "no ")logits, \(reference.file.path) gives \(other.map { "\($0)" } ?? "none")",
          file: model.file.path)
      }
    }
    self.model = model
    self.reference = reference
    self.threadCount = threadCount
    wanted = Set(nodes + [scores.flatMap { model.graph.outputs[$0] }].compactMap { $0 }).sorted()
  }

  private static func scoreCount(of model: LanguageModel, _ output: String?) -> Int? {
    output.flatMap { model.graph.outputs[$0] }.flatMap(model.graph.channelCount)
  }

  /// Runs the models on a window of tokens and gives the values of the model's nodes back.
  ///
  /// - Parameter label: the class that the window has.
  /// - Throws: `Refusal` with rule `eval-not-finite` for logits that are NaN or infinite.
  package mutating func add(_ window: TokenSequence, label: Int?) throws -> [String: Matrix] {
    let start = ContinuousClock.now
    let result = try Evaluation.run(model, window, until: wanted)
    seconds += (ContinuousClock.now - start) / .seconds(1)
    windowCount += 1
    tokenCount += window.tokenIDs.count
    guard let scores, let logits = model.graph.outputs[scores].flatMap({ result[$0] }) else { return result }
    let own = try Evaluation.seen(logits, scores, window, of: model)
    let tokens = scores == "logits" && model.isCausal ? window.withoutPadding?.tokenIDs : nil
    if let tokens {
      try Refusal.naming(model.file.path) {
        try likelihood.add(logits: own, tokenIDs: tokens, threadCount: threadCount)
      }
    }
    if scores == "class_logits", let label {
      labels.append(label)
      chosenLabels.append(TaskStatistics.firstGreatest(own[0].map(Double.init)) ?? 0)
    }
    if let reference, let node = reference.graph.outputs[scores],
      let all = try Evaluation.run(reference, window, until: [node])[node]
    {
      let other = try Evaluation.seen(all, scores, window, of: reference)
      if let tokens {
        try Refusal.naming(reference.file.path) {
          try referenceLikelihood.add(logits: other, tokenIDs: tokens, threadCount: threadCount)
        }
      }
      try comparison.add(
        logits: own.distributions(of: scores), reference: other.distributions(of: scores), threadCount: threadCount)
    }
    return result
  }

  private static func run(_ model: LanguageModel, _ window: TokenSequence, until wanted: [String]) throws
    -> [String: Matrix]
  {
    try Refusal.naming(model.file.path) {
      // What is run of the whole model needs less memory.
      if wanted.count == 1, let output = model.graph.outputs.first(where: { $0.value == wanted[0] })?.key,
        let value = try model.executor.run([window], observe: nil).first?.output(output)
      {
        return [wanted[0]: value]
      }
      return try model.executor.run([window], from: [:], until: wanted, observe: nil).first?.outputs ?? [:]
    }
  }

  /// The rows of logits whose tokens are not hidden.
  ///
  /// - Throws: `Refusal` with rule `eval-not-finite`.
  private static func seen(
    _ logits: Matrix, _ output: String, _ window: TokenSequence, of model: LanguageModel
  ) throws -> Matrix {
    // Figures of NaN look like figures: a divergence of it would be 0.
    if let index = logits.values.firstIndex(where: { !$0.isFinite }) {
      throw Refusal(
        "eval-not-finite", "the logit of token \(index % logits.channelCount) is \(logits.values[index])",
        file: model.file.path)
    }
    guard output != "class_logits", let mask = window.attentionMask else { return logits }
    let rows = mask.indices.filter { mask[$0] }
    return Matrix(
      rowCount: rows.count, channelCount: logits.channelCount, values: rows.flatMap { Array(logits[$0]) })
  }

  // MARK: Figures

  private var predicts: Bool { model.isCausal && scores == "logits" }
  private var perplexity: Double? { predicts ? likelihood.perplexity : nil }
  private var referencePerplexity: Double? { predicts ? referenceLikelihood.perplexity : nil }
  private var ratio: (ratio: Double, standardError: Double)? {
    predicts ? likelihood.perplexityRatio(to: referenceLikelihood) : nil
  }
  private var rightCount: Int { zip(labels, chosenLabels).count { $0 == $1 } }
  private var accuracy: Double? { labels.isEmpty ? nil : Double(rightCount) / Double(labels.count) }
  private var matthews: Double { TaskStatistics.matthews(labels, chosenLabels) }
  /// Of label 1, where there are two.
  private var f1: Double? {
    Evaluation.scoreCount(of: model, scores) == 2 ? TaskStatistics.f1(labels, chosenLabels) : nil
  }
  private var tokensPerSecond: Double { Double(tokenCount) / max(seconds, 1e-9) }

  /// All figures.
  package var json: JSONValue {
    var members: JSONObject = [
      "model": .string(model.file.path), "perplexity": .finite(perplexity),
      "windowCount": .integer(windowCount), "tokenCount": .integer(tokenCount),
      "predictedTokenCount": .integer(likelihood.losses.count), "seconds": .finite(seconds),
      "tokensPerSecond": .finite(tokensPerSecond),
    ]
    if let accuracy {
      members["accuracy"] = .finite(accuracy)
      members["matthews"] = .finite(matthews)
      if let f1 { members["f1"] = .finite(f1) }
    }
    if let reference {
      members["against"] = .object([
        "model": .string(reference.file.path), "perplexity": .finite(referencePerplexity),
        "perplexityRatio": .finite(ratio?.ratio),
        "perplexityRatioStandardError": .finite(ratio?.standardError),
        "klMean": .finite(comparison.mean), "kl99thPercentile": .finite(comparison.quantile(0.99)),
        "klMaximum": .finite(comparison.maximum), "top1Agreement": .finite(comparison.agreement),
      ])
    }
    return .object(members)
  }

  /// The figures for people.
  package var text: String {
    func number(_ value: Double?, _ places: Int) -> String { value.map { fixed($0, places) } ?? "–" }
    let none =
      scores == "logits"
      ? model.isCausal ? "– (windows of one token)" : "– (tokens see those that follow)"
      : "– (no logits of tokens)"
    var lines = [
      "perplexity     " + (perplexity.map { fixed($0, 4) } ?? none),
      "tokens         \(tokenCount) in \(windowCount) windows, "
        + "\(likelihood.losses.count) predicted",
      "speed          \(fixed(tokensPerSecond, 1)) tokens/s",
    ]
    if let accuracy {
      lines.append("accuracy       \(fixed(accuracy, 4)) (\(rightCount) of \(labels.count) windows)")
      lines.append("Matthews       \(fixed(matthews, 4))" + (f1.map { ", F1 \(fixed($0, 4))" } ?? ""))
    }
    if let reference {
      lines += [
        "against        \(Refusal.printable(reference.file.path)): perplexity "
          + number(referencePerplexity, 4),
        "ratio          \(number(ratio?.ratio, 5)) ± \(number(ratio?.standardError, 5))",
        "KL divergence  mean \(number(comparison.mean, 6)), 99 % \(number(comparison.quantile(0.99), 6)), "
          + "maximum \(number(comparison.maximum, 6)) nats",
        "top-1          \(number(comparison.agreement.map { $0 * 100 }, 2)) % the same",
      ]
    }
    return lines.joined(separator: "\n")
  }
}
