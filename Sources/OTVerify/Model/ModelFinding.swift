import OTFoundation
import OTGraph
import OTJSON
import OTRuntime

/// The distance of a packed model's outputs from its source's, on sample text.
package struct ModelFinding: Sendable {
  /// Perplexities on the same tokens; nil where tokens see those that follow,
  /// or the model gives no logits.
  package struct Perplexity: Sendable, Hashable {
    /// The packed model's.
    package let packed: Double
    /// The source's.
    package let source: Double
    /// The first divided by the second.
    package let ratio: Double
    /// Standard error of the ratio, tokens taken as independent.
    package let standardError: Double
    /// Tokens that were predicted.
    package let tokenCount: Int

    /// Puts the figures together.
    package init(packed: Double, source: Double, ratio: Double, standardError: Double, tokenCount: Int) {
      (self.packed, self.source, self.ratio) = (packed, source, ratio)
      (self.standardError, self.tokenCount) = (standardError, tokenCount)
    }
  }

  /// KL(source ‖ packed) of the next-token distributions, in nats.
  package struct Divergence: Sendable, Hashable {
    /// Mean over the tokens.
    package let mean: Double
    /// The value that 99 % of the tokens do not exceed.
    package let percentile99: Double
    /// The largest.
    package let maximum: Double
    /// Share of tokens at which both find the same token likeliest.
    package let top1Agreement: Double

    /// Puts the figures together.
    package init(mean: Double, percentile99: Double, maximum: Double, top1Agreement: Double) {
      (self.mean, self.percentile99, self.maximum) = (mean, percentile99, maximum)
      self.top1Agreement = top1Agreement
    }
  }

  /// Cosine between vectors of both models: tokens of `hidden`, sequences of `pooled`.
  package struct Similarity: Sendable, Hashable {
    /// `hidden` or `pooled`.
    package let output: String
    /// Mean over the vectors.
    package let mean: Double
    /// The least.
    package let minimum: Double

    /// Puts the figures together.
    package init(output: String, mean: Double, minimum: Double) {
      (self.output, self.mean, self.minimum) = (output, mean, minimum)
    }
  }

  /// Perplexities, where there are any.
  package let perplexity: Perplexity?
  /// Distance of the distributions of next tokens or, of a classifier, of classes; nil where the model gives neither.
  package let divergence: Divergence?
  /// Of outputs that are no such scores.
  package let similarities: [Similarity]
  /// The faults: figure, and sentence in words.
  package let faults: [(figure: String, message: String)]

  /// Every figure that a tolerance judges, by the name that its fault would have.
  package var figures: [(name: String, value: Double)] {
    var figures: [(name: String, value: Double)] = []
    if let perplexity { figures.append(("perplexity ratio", perplexity.ratio)) }
    if let divergence {
      figures.append(("mean KL divergence", divergence.mean))
      figures.append(("top-1 agreement", divergence.top1Agreement))
    }
    return figures + similarities.map { ("mean cosine of \($0.output)", $0.mean) }
  }

  /// Puts the figures together.
  package init(
    perplexity: Perplexity?, divergence: Divergence?, similarities: [Similarity],
    faults: [(figure: String, message: String)]
  ) {
    (self.perplexity, self.divergence) = (perplexity, divergence)
    (self.similarities, self.faults) = (similarities, faults)
  }

  init(_ comparison: ModelComparison, tolerance: Tolerance, scheme: ModelScheme) {
    perplexity = comparison.perplexity
    divergence = comparison.divergence
    similarities = comparison.similarities
    faults = tolerance.faults(
      perplexity: comparison.perplexity, divergence: comparison.divergence,
      similarities: comparison.similarities, scheme: scheme)
  }
}

/// Gathers what a `ModelFinding` says, sequence by sequence.
package struct ModelComparison {
  let isCausal: Bool
  private var packedLikelihood = TokenLikelihood()
  private var sourceLikelihood = TokenLikelihood()
  private var distributions = DistributionComparison()
  private var cosines: [String: [Double]] = [:]

  /// Nothing compared yet.
  package init(isCausal: Bool) { self.isCausal = isCausal }

  /// Adds what both gave for a sequence.
  ///
  /// - Throws: `Refusal` with rule `run-output` where the packed model lacks an output, or `run-token-id`.
  package mutating func add(
    _ packed: ExecutionResult, reference: ExecutionResult, tokenIDs: [Int], threadCount: Int
  ) throws {
    let scores = Graph.scoreOutputs.first { reference.outputs[$0] != nil }
    for (name, expected) in reference.outputs {
      let actual = try packed.output(name)
      guard name == scores else {
        for row in 0..<min(expected.rowCount, actual.rowCount) {
          cosines[name, default: []].append(cosine(expected[row], actual[row]))
        }
        continue
      }
      if isCausal, name == "logits" {
        try packedLikelihood.add(logits: actual, tokenIDs: tokenIDs, threadCount: threadCount)
        try sourceLikelihood.add(logits: expected, tokenIDs: tokenIDs, threadCount: threadCount)
      }
      try distributions.add(
        logits: actual.distributions(of: name), reference: expected.distributions(of: name), threadCount: threadCount)
    }
  }

  /// Adds what was compared after this.
  mutating func add(_ next: ModelComparison) {
    packedLikelihood = TokenLikelihood(losses: packedLikelihood.losses + next.packedLikelihood.losses)
    sourceLikelihood = TokenLikelihood(losses: sourceLikelihood.losses + next.sourceLikelihood.losses)
    distributions = DistributionComparison(
      divergences: distributions.divergences + next.distributions.divergences,
      agreementCount: distributions.agreementCount + next.distributions.agreementCount)
    cosines.merge(next.cosines) { $0 + $1 }
  }

  // MARK: In the file of a part

  var json: JSONValue {
    .object([
      "isCausal": .bool(isCausal), "packedLosses": .bits(of: packedLikelihood.losses),
      "sourceLosses": .bits(of: sourceLikelihood.losses), "divergences": .bits(of: distributions.divergences),
      "agreementCount": .integer(distributions.agreementCount),
      "cosines": .object(
        cosines.sorted { $0.key < $1.key }.reduce(into: JSONObject()) { $0[$1.key] = .bits(of: $1.value) }),
    ])
  }

  /// Nil where it is damaged.
  init?(_ json: JSONValue) {
    guard let isCausal = json["isCausal"]?.bool, let packed = json["packedLosses"]?.bits(as: Double.self),
      let source = json["sourceLosses"]?.bits(as: Double.self), packed.count == source.count,
      let divergences = json["divergences"]?.bits(as: Double.self), let agreementCount = json["agreementCount"]?.count,
      let cosines = json["cosines"]?.object?.members
    else { return nil }
    self.init(isCausal: isCausal)
    packedLikelihood = TokenLikelihood(losses: packed)
    sourceLikelihood = TokenLikelihood(losses: source)
    distributions = DistributionComparison(divergences: divergences, agreementCount: agreementCount)
    for (output, values) in cosines {
      guard let values = values.bits(as: Double.self) else { return nil }
      self.cosines[output] = values
    }
  }

  // MARK: Figures

  /// Perplexities, where the model continues text.
  package var perplexity: ModelFinding.Perplexity? {
    guard let packed = packedLikelihood.perplexity, let source = sourceLikelihood.perplexity,
      let ratio = packedLikelihood.perplexityRatio(to: sourceLikelihood)
    else { return nil }
    return .init(
      packed: packed, source: source, ratio: ratio.ratio, standardError: ratio.standardError,
      tokenCount: packedLikelihood.losses.count)
  }

  /// The distance of the distributions, where there are any.
  package var divergence: ModelFinding.Divergence? {
    guard let mean = distributions.mean, let percentile = distributions.quantile(0.99),
      let maximum = distributions.maximum, let agreement = distributions.agreement
    else { return nil }
    return .init(mean: mean, percentile99: percentile, maximum: maximum, top1Agreement: agreement)
  }

  /// Cosines of all other outputs.
  package var similarities: [ModelFinding.Similarity] {
    cosines.sorted { $0.key < $1.key }.map { name, values in
      // A NaN is the least of all.
      let least = values.reduce(1) { $1.isNaN || $0.isNaN ? .nan : min($0, $1) }
      return .init(output: name, mean: values.reduce(0, +) / Double(values.count), minimum: least)
    }
  }
}

/// The cosine of the angle between two vectors: 1 where both are zero, 0 where one is.
package func cosine(_ a: some Sequence<Float>, _ b: some Sequence<Float>) -> Double {
  var (products, first, second) = (0.0, 0.0, 0.0)
  for (a, b) in zip(a, b) {
    products += Double(a) * Double(b)
    first += Double(a) * Double(a)
    second += Double(b) * Double(b)
  }
  if first == 0, second == 0 { return 1 }
  return first == 0 || second == 0 ? 0 : products / (first.squareRoot() * second.squareRoot())
}
