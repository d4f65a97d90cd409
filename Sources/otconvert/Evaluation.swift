import Foundation
import OTFoundation
import OTGraph
import OTJSON
import OTQ
import OTRuntime

/// The results of `eval`, gathered window by window.
struct Evaluation {
  private let model: LanguageModel
  private let reference: LanguageModel?
  private let threadCount: Int
  private var likelihood = TokenLikelihood()
  private var referenceLikelihood = TokenLikelihood()
  private var comparison = DistributionComparison()
  private var windowCount = 0
  private var tokenCount = 0
  private var seconds = 0.0

  /// Logits of a token.
  let vocabularySize: Int

  /// - Throws: `Refusal` with rule `eval-no-logits` or `eval-vocabulary`.
  init(_ model: LanguageModel, reference: LanguageModel?, threadCount: Int) throws {
    let size = try Evaluation.vocabularySize(of: model)
    if let reference {
      let other = try Evaluation.vocabularySize(of: reference)
      guard size == other else {
        throw Refusal(
          "eval-vocabulary", "gives \(size) logits, \(reference.file.path) gives \(other)",
          file: model.file.path)
      }
    }
    self.model = model
    self.reference = reference
    self.threadCount = threadCount
    vocabularySize = size
  }

  private static func vocabularySize(of model: LanguageModel) throws -> Int {
    guard let size = model.graph.outputs["logits"].flatMap(model.graph.channelCount) else {
      throw Refusal("eval-no-logits", "gives no logits", file: model.file.path)
    }
    return size
  }

  /// Runs the models on a window of tokens and gives the model's logits back.
  ///
  /// - Throws: `Refusal` with rule `eval-not-finite` for logits that are NaN or infinite.
  mutating func add(_ window: [Int]) throws -> Matrix {
    let start = ContinuousClock.now
    let logits = try model.logits(for: window)
    seconds += (ContinuousClock.now - start) / .seconds(1)
    windowCount += 1
    tokenCount += window.count
    try likelihood.add(logits, of: model, on: window, threadCount: threadCount)
    if let reference {
      let other = try reference.logits(for: window)
      try referenceLikelihood.add(other, of: reference, on: window, threadCount: threadCount)
      try comparison.add(logits: logits, reference: other, threadCount: threadCount)
    }
    return logits
  }

  // MARK: Figures

  private var perplexity: Double? { model.isCausal ? likelihood.perplexity : nil }
  private var referencePerplexity: Double? { model.isCausal ? referenceLikelihood.perplexity : nil }
  private var ratio: (ratio: Double, standardError: Double)? {
    model.isCausal ? likelihood.perplexityRatio(to: referenceLikelihood) : nil
  }
  private var tokensPerSecond: Double { Double(tokenCount) / max(seconds, 1e-9) }

  var json: JSONValue {
    func number(_ value: Double?) -> JSONValue {
      // JSON has no infinity.
      value.flatMap { $0.isFinite ? .number($0) : nil } ?? .null
    }
    var members: JSONObject = [
      "model": .string(model.file.path), "perplexity": number(perplexity),
      "windowCount": .integer(windowCount), "tokenCount": .integer(tokenCount),
      "predictedTokenCount": .integer(likelihood.losses.count), "seconds": number(seconds),
      "tokensPerSecond": number(tokensPerSecond),
    ]
    if let reference {
      members["against"] = .object([
        "model": .string(reference.file.path), "perplexity": number(referencePerplexity),
        "perplexityRatio": number(ratio?.ratio),
        "perplexityRatioStandardError": number(ratio?.standardError),
        "klMean": number(comparison.mean), "kl99thPercentile": number(comparison.quantile(0.99)),
        "klMaximum": number(comparison.maximum), "top1Agreement": number(comparison.agreement),
      ])
    }
    return .object(members)
  }

  var text: String {
    func number(_ value: Double?, _ places: Int) -> String { value.map { fixed($0, places) } ?? "–" }
    let none = model.isCausal ? "– (windows of one token)" : "– (tokens see those that follow)"
    var lines = [
      "perplexity     " + (perplexity.map { fixed($0, 4) } ?? none),
      "tokens         \(tokenCount) in \(windowCount) windows, "
        + "\(likelihood.losses.count) predicted",
      "speed          \(fixed(tokensPerSecond, 1)) tokens/s",
    ]
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

extension TokenLikelihood {
  fileprivate mutating func add(_ logits: Matrix, of model: LanguageModel, on window: [Int], threadCount: Int) throws {
    // Figures of NaN look like figures: a divergence of it would be 0.
    if let index = logits.values.firstIndex(where: { !$0.isFinite }) {
      throw Refusal(
        "eval-not-finite", "the logit of token \(index % logits.channelCount) is \(logits.values[index])",
        file: model.file.path)
    }
    try Refusal.naming(model.file.path) {
      try add(logits: logits, tokenIDs: window, threadCount: threadCount)
    }
  }
}
