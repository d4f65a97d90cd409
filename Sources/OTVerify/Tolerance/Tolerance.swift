/// The limits of a packed file's distance from its source: `formats/tolerance.md`.
package struct Tolerance: Sendable, Hashable {
  // MARK: Weights

  /// Largest |w − ŵ| in steps of the weight's scale, but for codes at the ends
  /// of their range. Half a step, and the rounding of float32 in up to 255 steps.
  package var maximumErrorInSteps = 0.5001
  /// Least signal to quantization noise of a tensor in decibels, by bits.
  ///
  /// By default 6·bits − 18: a uniform quantizer gains 6 dB per bit, and a
  /// matrix of normal weights has about 10 dB more than this.
  package var minimumSQNRDecibels: [Int: Double] = Dictionary(
    uniqueKeysWithValues: (2...8).map { ($0, Double(6 * $0 - 18)) })
  /// Decibels that a weight may lose of its signal to noise where it was rounded by a rule that lets
  /// weights make up for each other's errors.
  package var feedbackDecibels = 6.0
  /// Largest error of a linear's outputs on text where its weights were rounded by such a rule, relative to that of the
  /// nearest values of the same scales.
  package var maximumOutputErrorRatio = 1.0
  /// Largest |p − p̂| of a float parameter (norms and biases), relative to the
  /// largest of its tensor.
  package var maximumRelativeError = 1e-5

  // MARK: Layers

  // The defaults of layers and models are twice or so what correct conversions of OPT, BLOOM, LLaMA and BERT
  // have been measured to give: formats/tolerance.md.

  /// Largest relative error of the output of a linear or a norm.
  package var maximumLayerError = SchemeLimit(
    base: 0.15, radix: 2, dynamic: .init(weights: 40, activations: 48), static: .init(weights: 16, activations: 24),
    bounds: 0...0.95)
  /// Least cosine of the output of a linear or a norm; by default any, since the
  /// relative error bounds it.
  package var minimumLayerCosine = SchemeLimit(
    base: -1, radix: 2, dynamic: .init(weights: 0, activations: 0), static: .init(weights: 0, activations: 0))

  // MARK: Model

  /// Largest ratio of the packed model's perplexity to the source's, whatever the scheme; the ratio less
  /// 1.645 of its standard errors is held against it.
  package var maximumPerplexityRatio = SchemeLimit(
    all: 1.03, base: 1.03, radix: 4, dynamic: .init(weights: 250, activations: 1800),
    static: .init(weights: 250, activations: 1500))
  /// Largest mean KL divergence, in nats, whatever the scheme.
  package var maximumMeanDivergence = SchemeLimit(
    all: 0.05, base: 0.01, radix: 4, dynamic: .init(weights: 450, activations: 3000),
    static: .init(weights: 450, activations: 1500))
  /// Least share of tokens with the same likeliest next token.
  package var minimumTop1Agreement = SchemeLimit(
    base: 0.97, radix: 2, dynamic: .init(weights: -14, activations: -30),
    static: .init(weights: -14, activations: -10), bounds: 0...1)
  /// Least mean cosine of the vectors of each output that is not logits.
  package var minimumOutputCosine = SchemeLimit(
    base: 0.998, radix: 4, dynamic: .init(weights: -60, activations: -200),
    static: .init(weights: -60, activations: -200), bounds: 0...1)

  /// The defaults.
  package init() {}

  /// Names for limits that need no file, in the order of what they allow.
  package static let names = ["strict", "default", "scheme"]

  /// The limits of a name: the defaults; `strict`, a perplexity ratio of 1.01 and a mean divergence of 0.01;
  /// `scheme`, what a correct conversion with so many bits gives. Nil for another name.
  package init?(named name: String) {
    guard Tolerance.names.contains(name) else { return nil }
    if name == "strict" { (maximumPerplexityRatio.all, maximumMeanDivergence.all) = (1.01, 0.01) }
    if name == "scheme" { (maximumPerplexityRatio.all, maximumMeanDivergence.all) = (nil, nil) }
  }
}

// MARK: - Judging

extension Tolerance {
  /// The faults of a node's output, in words.
  func faults(of error: OutputError, scheme: ModelScheme) -> [String] {
    var faults: [String] = []
    let limit = maximumLayerError.value(for: scheme)
    if !(error.relativeError <= limit) {
      faults.append(
        "relative error is \(error.relativeError.rounded(toPlaces: 4)), \(limit.rounded(toPlaces: 4)) is allowed "
          + "with \(scheme.name)")
    }
    let least = minimumLayerCosine.value(for: scheme)
    if !(error.cosine >= least) {
      faults.append(
        "cosine is \(error.cosine.rounded(toPlaces: 4)), \(least.rounded(toPlaces: 4)) is demanded "
          + "with \(scheme.name)")
    }
    return faults
  }

  /// The faults of a model's outputs: figure and sentence.
  package func faults(
    perplexity: ModelFinding.Perplexity?, divergence: ModelFinding.Divergence?,
    similarities: [ModelFinding.Similarity], scheme: ModelScheme
  ) -> [(figure: String, message: String)] {
    var faults: [(figure: String, message: String)] = []
    func check(_ figure: String, _ value: Double, _ limit: Double, isLeast: Bool) {
      guard !(isLeast ? value >= limit : value <= limit) else { return }
      faults.append(
        (
          figure,
          "is \(value.rounded(toPlaces: 5)), \(limit.rounded(toPlaces: 5)) is "
            + "\(isLeast ? "demanded" : "allowed") with \(scheme.name)"
        ))
    }
    if let perplexity {
      let limit = maximumPerplexityRatio.value(for: scheme)
      // One-sided, 95 %.
      if !(perplexity.ratio - 1.645 * perplexity.standardError <= limit) {
        faults.append(
          (
            "perplexity ratio",
            "is \(perplexity.ratio.rounded(toPlaces: 5)) ± \(perplexity.standardError.rounded(toPlaces: 5)), "
              + "\(limit.rounded(toPlaces: 5)) is allowed with \(scheme.name)"
          ))
      }
    }
    if let divergence {
      check("mean KL divergence", divergence.mean, maximumMeanDivergence.value(for: scheme), isLeast: false)
      check("top-1 agreement", divergence.top1Agreement, minimumTop1Agreement.value(for: scheme), isLeast: true)
    }
    for similarity in similarities {
      check(
        "mean cosine of \(similarity.output)", similarity.mean, minimumOutputCosine.value(for: scheme), isLeast: true)
    }
    return faults
  }
}

extension Double {
  /// Rounded for a sentence.
  func rounded(toPlaces places: Int) -> Double {
    var factor = 1.0
    for _ in 0..<places { factor *= 10 }
    return isFinite ? (self * factor).rounded() / factor : self
  }
}
