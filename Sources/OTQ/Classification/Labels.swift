import OTFoundation
import OTJSON
import OTModel
import OTPlatform

/// The labels of a classifier, as its config.json names them, and the function that makes scores of logits, as
/// the pipelines of transformers choose it.
struct Labels {
  private enum Function { case softmax, sigmoid, identity }

  let names: [String]
  private let function: Function

  /// - Parameters:
  ///   - count: of the labels.
  ///   - isOfTokens: whether each token has one: these exclude each other whatever the kind of problem.
  /// - Throws: as reading config.json throws.
  init(_ model: Model, count: Int, isOfTokens: Bool) throws {
    let configuration = try model.json(.configuration)
    let names = configuration?["id2label"]?.object
    self.names = (0..<count).map { names?["\($0)"]?.string ?? "LABEL_\($0)" }
    switch configuration?["problem_type"]?.string {
    case _ where isOfTokens && count > 1: function = .softmax
    case "regression"?: function = .identity
    case "multi_label_classification"?: function = .sigmoid
    default: function = count == 1 ? .sigmoid : .softmax
    }
  }

  /// The scores of one row of logits, the best first, of equals the first label.
  func scores(_ logits: ArraySlice<Float>) -> [LabelScore] {
    let values = Array(logits)
    let scores: [Double]
    switch function {
    case .identity: scores = values.map(Double.init)
    case .sigmoid: scores = values.map { 1 / (1 + exp(-Double($0))) }
    case .softmax: scores = Labels.softmax(values)
    }
    return values.indices.map { index in
      LabelScore(label: names[index], index: index, logit: values[index], score: Float(scores[index]))
    }.sorted { ($1.logit, $0.index) < ($0.logit, $1.index) }
  }

  /// exp(x) / Σ exp(x), in float64.
  static func softmax(_ logits: some Collection<Float>) -> [Double] {
    let greatest = Double(logits.max() ?? 0)
    let exponentials = logits.map { exp(Double($0) - greatest) }
    let sum = exponentials.reduce(0, +)
    return exponentials.map { $0 / sum }
  }
}
