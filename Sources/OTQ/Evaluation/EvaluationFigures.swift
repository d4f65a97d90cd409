import OTFoundation
import OTJSON
import OTRuntime

/// What `eval` measures, gathered window by window; it needs no model, so that parts can be put together.
package struct EvaluationFigures: Sendable {
  /// The model's path.
  let model: String
  /// That of the model that it is compared with; nil: none.
  let reference: String?
  let isCausal: Bool
  /// The output that scores tokens or classes; nil: none.
  let scores: String?
  /// Tokens or classes that it scores.
  let scoreCount: Int?
  var likelihood = TokenLikelihood()
  var referenceLikelihood = TokenLikelihood()
  var comparison = DistributionComparison()
  /// The classes of the windows whose class is known, and those that the model gave them.
  var labels: [Int] = []
  var chosenLabels: [Int] = []
  var windowCount = 0
  var tokenCount = 0
  var seconds = 0.0

  init(model: String, reference: String?, isCausal: Bool, scores: String?, scoreCount: Int?) {
    (self.model, self.reference, self.isCausal) = (model, reference, isCausal)
    (self.scores, self.scoreCount) = (scores, scoreCount)
  }

  // MARK: Figures

  private var predicts: Bool { isCausal && scores == "logits" }
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
    scoreCount == 2 ? TaskStatistics.f1(labels, chosenLabels) : nil
  }
  private var tokensPerSecond: Double { Double(tokenCount) / max(seconds, 1e-9) }

  /// All figures.
  package var json: JSONValue {
    var members: JSONObject = [
      "model": .string(model), "perplexity": .finite(perplexity),
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
        "model": .string(reference), "perplexity": .finite(referencePerplexity),
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
      ? isCausal ? "– (windows of one token)" : "– (tokens see those that follow)"
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
        "against        \(Refusal.printable(reference)): perplexity "
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
