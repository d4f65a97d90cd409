import OTFoundation
import OTPlatform

/// The losses of logits on the tokens that follow: the sums behind a perplexity.
///
/// In each window the first token is context only.
package struct TokenLikelihood: Sendable {
  /// −ln p of each predicted token, in order.
  package private(set) var losses: [Double] = []

  /// Nothing has been predicted yet.
  package init() {}

  /// Losses that were measured before.
  package init(losses: [Double]) { self.losses = losses }

  /// Adds a window: row i of `logits` `[tokens, vocabulary]` predicts token i + 1.
  ///
  /// Logarithms of sums of exponentials; terms are float32, sums float64.
  /// - Throws: `Refusal` with rule `run-token-id` for a token that has no logit.
  /// - Precondition: there is one row per token.
  /// - Complexity: O(tokens · vocabulary).
  package mutating func add(logits: Matrix, tokenIDs: [Int], threadCount: Int) throws {
    precondition(logits.rowCount == tokenIDs.count, "one row per token")
    guard tokenIDs.count > 1 else { return }
    // Rows are read without checks.
    if let index = tokenIDs.firstIndex(where: { !(0..<logits.channelCount).contains($0) }) {
      throw Refusal("run-token-id", "token \(index) is \(tokenIDs[index]), there are \(logits.channelCount) logits")
    }
    losses += try mapBlocks(tokenIDs.count - 1, threadCount: threadCount) { row in
      logits.withRow(row) { $0.logSumExp - Double($0[tokenIDs[row + 1]]) }
    }
  }

  /// exp of the mean loss; nil when nothing was predicted.
  package var perplexity: Double? {
    losses.isEmpty ? nil : exp(losses.reduce(0, +) / Double(losses.count))
  }

  /// The perplexity divided by that of a reference on the same tokens, and its
  /// standard error: that of the mean difference of losses, by the delta
  /// method, tokens taken as independent. Nil for fewer than 2 tokens.
  ///
  /// - Precondition: both have predicted the same tokens.
  package func perplexityRatio(to reference: TokenLikelihood) -> (
    ratio: Double, standardError: Double
  )? {
    precondition(losses.count == reference.losses.count, "not the same tokens")
    guard losses.count > 1 else { return nil }
    let count = Double(losses.count)
    let differences = zip(losses, reference.losses).map { $0 - $1 }
    let mean = differences.reduce(0, +) / count
    let variance = differences.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / (count - 1)
    return (exp(mean), exp(mean) * (variance / count).squareRoot())
  }
}

/// The distance of a model's distributions from a reference's, token by token.
package struct DistributionComparison: Sendable {
  /// KL(reference ‖ model) in nats of every token, in order.
  package private(set) var divergences: [Double] = []
  /// Tokens at which both find the same next token likeliest (of equals the first).
  package private(set) var agreementCount = 0

  /// Nothing has been compared yet.
  package init() {}

  /// Tokens that were compared before.
  package init(divergences: [Double], agreementCount: Int) {
    (self.divergences, self.agreementCount) = (divergences, agreementCount)
  }

  /// Adds the tokens of a sequence.
  ///
  /// - Precondition: both are `[tokens, vocabulary]` of one size.
  /// - Complexity: O(tokens · vocabulary).
  package mutating func add(logits: Matrix, reference: Matrix, threadCount: Int) throws {
    precondition(
      logits.rowCount == reference.rowCount && logits.channelCount == reference.channelCount)
    let rows = try mapBlocks(logits.rowCount, threadCount: threadCount) { row in
      logits.withRow(row) { model in
        reference.withRow(row) { (divergence(of: model, from: $0), argmax(model) == argmax($0)) }
      }
    }
    divergences += rows.map(\.0)
    agreementCount += rows.count { $0.1 }
  }

  /// Mean of the divergences; nil when nothing was compared.
  package var mean: Double? {
    divergences.isEmpty ? nil : divergences.reduce(0, +) / Double(divergences.count)
  }

  /// The largest divergence.
  package var maximum: Double? { quantile(1) }

  /// The least divergence that a share `level` (0 … 1) of all do not exceed.
  package func quantile(_ level: Double) -> Double? {
    let sorted = divergences.sorted()
    guard !sorted.isEmpty else { return nil }
    let rank = Int((level * Double(sorted.count)).rounded(.up))
    return sorted[min(max(rank, 1), sorted.count) - 1]
  }

  /// Share of tokens at which the likeliest next token is the same.
  package var agreement: Double? {
    divergences.isEmpty ? nil : Double(agreementCount) / Double(divergences.count)
  }
}

/// Σ p·(ln p − ln q), not below 0 but for rounding; p is the reference's.
private func divergence(
  of model: UnsafeBufferPointer<Float>, from reference: UnsafeBufferPointer<Float>
) -> Double {
  let (modelTotal, referenceTotal) = (model.logSumExp, reference.logSumExp)
  var sum = 0.0
  for index in reference.indices {
    let logarithm = Double(reference[index]) - referenceTotal
    let probability = Double(expf(Float(logarithm)))
    guard probability > 0 else { continue }
    sum += probability * (logarithm - (Double(model[index]) - modelTotal))
  }
  return max(sum, 0)
}

/// The index of the greatest value, of equals the first.
func argmax(_ row: UnsafeBufferPointer<Float>) -> Int {
  var best = 0
  for index in row.indices where row[index] > row[best] { best = index }
  return best
}

extension UnsafeBufferPointer<Float> {
  /// ln Σ exp(x); terms are float32, sums float64.
  var logSumExp: Double {
    var greatest = -Float.infinity
    for value in self { greatest = Swift.max(greatest, value) }
    var sum = 0.0
    for value in self { sum += Double(expf(value - greatest)) }
    return Double(greatest) + log(sum)
  }
}

extension Matrix {
  fileprivate func withRow<Result>(
    _ row: Int, _ body: (UnsafeBufferPointer<Float>) throws -> Result
  ) rethrows -> Result {
    try values.withUnsafeBufferPointer {
      try body(
        UnsafeBufferPointer(rebasing: $0[row * channelCount..<(row + 1) * channelCount]))
    }
  }
}
