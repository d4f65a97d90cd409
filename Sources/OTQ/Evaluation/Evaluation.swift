import OTFoundation
import OTGraph
import OTJSON
import OTRuntime

/// The work of `eval`: runs a model, and another that it is compared with, on windows.
package struct Evaluation {
  /// What has been measured so far.
  package private(set) var figures: EvaluationFigures
  private let model: LanguageModel
  private let reference: LanguageModel?
  private let threadCount: Int
  /// The output that scores tokens or classes; nil: none.
  private let scores: String?
  /// The nodes that are run.
  private let wanted: [String]

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
    figures = EvaluationFigures(
      model: model.file.path, reference: reference?.file.path, isCausal: model.isCausal, scores: scores,
      scoreCount: Evaluation.scoreCount(of: model, scores))
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
    figures.seconds += (ContinuousClock.now - start) / .seconds(1)
    figures.windowCount += 1
    figures.tokenCount += window.tokenIDs.count
    guard let scores, let logits = model.graph.outputs[scores].flatMap({ result[$0] }) else { return result }
    let own = try Evaluation.seen(logits, scores, window, of: model)
    let tokens = scores == "logits" && model.isCausal ? window.withoutPadding?.tokenIDs : nil
    if let tokens {
      try Refusal.naming(model.file.path) {
        try figures.likelihood.add(logits: own, tokenIDs: tokens, threadCount: threadCount)
      }
    }
    if scores == "class_logits", let label {
      figures.labels.append(label)
      figures.chosenLabels.append(TaskStatistics.firstGreatest(own[0].map(Double.init)) ?? 0)
    }
    if let reference, let node = reference.graph.outputs[scores],
      let all = try Evaluation.run(reference, window, until: [node])[node]
    {
      let other = try Evaluation.seen(all, scores, window, of: reference)
      if let tokens {
        try Refusal.naming(reference.file.path) {
          try figures.referenceLikelihood.add(logits: other, tokenIDs: tokens, threadCount: threadCount)
        }
      }
      try figures.comparison.add(
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
}
