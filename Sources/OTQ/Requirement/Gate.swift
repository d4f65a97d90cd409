import OTContainer
import OTFoundation
import OTGraph
import OTJSON
import OTModel
import OTObservation
import OTRuntime
import OTVerify

/// Measures a packed file beside its source and holds it to requirements, before it appears.
package struct Gate: Sendable {
  /// The text on which the outputs of both models are compared.
  package struct Text: Sendable {
    /// Its sequences.
    package let sequences: [TokenSequence]
    /// Its files, and what was drawn from them.
    package let run: CalibrationRun

    /// Sequences that were drawn elsewhere.
    package init(sequences: [TokenSequence], run: CalibrationRun) {
      (self.sequences, self.run) = (sequences, run)
    }

    /// A warning where it has so few tokens that its figures are mostly chance; nil otherwise.
    package var note: String? {
      let count = sequences.reduce(0) { $0 + $1.tokenIDs.count }
      guard count > 0, count < 1000 else { return nil }
      return "what is required is measured on \(count) tokens, and of so few it is mostly chance: "
        + "give more text with --require-text"
    }
  }

  private let requirements: [Requirement]
  private let text: Text
  private let source: SourceModel
  private let threadCount: Int
  /// The source's outcomes, which are the same for every file.
  private let outcomes: [QuestionFile: TaskOutcome]

  /// A gate; the source does its tasks now.
  ///
  /// - Throws: `Refusal` with rule `require-text` where figures on text are required and there is none, or as tasks
  ///   refuse their data.
  package init(
    _ requirements: [Requirement], text: Text, source: SourceModel, threadCount: Int, _ observer: WorkObserver
  ) throws {
    if let requirement = requirements.first(where: { $0.data == nil }), text.sequences.isEmpty {
      throw Refusal(
        "require-text", "there is no text to measure \(requirement.text) on", remedy: "give some with --require-text")
    }
    (self.requirements, self.text, self.source) = (requirements, text, source)
    self.threadCount = threadCount
    var outcomes: [QuestionFile: TaskOutcome] = [:]
    if requirements.contains(where: { $0.data != nil }) {
      let model = try LanguageModel(ModelFile(.source(source)), threadCount: threadCount)
      for requirement in requirements {
        guard let data = requirement.data, outcomes[data] == nil else { continue }
        // Where the file's own figure is required, one item says whether data and model are fit: before the conversion.
        let isDrop = if case .accuracyDrop = requirement.figure { true } else { false }
        let outcome = try Gate.outcome(of: data, model, limit: isDrop ? nil : 1, observer)
        if isDrop { outcomes[data] = outcome }
      }
    }
    self.outcomes = outcomes
  }

  /// Measures a file.
  ///
  /// - Parameters:
  ///   - path: the file.
  ///   - name: what refusals call it.
  /// - Throws: as executors and tasks throw, and what the observer throws.
  package func judge(_ path: String, name: String, _ observer: WorkObserver) throws -> Judgement {
    try PackedModel.unfinished(path, named: name) { file in
      let finding = try ModelFinding(
        of: file, source: source, sequences: text.sequences, threadCount: threadCount,
        progress: observer.begin(.running))
      var answers: [QuestionFile: TaskFigure] = [:]
      let data = requirements.compactMap(\.data)
      if !data.isEmpty {
        let model = try LanguageModel(ModelFile(.packed(file)), threadCount: threadCount)
        for data in data where answers[data] == nil {
          answers[data] = try Gate.outcome(of: data, model, observer).primary
        }
      }
      return Judgement(
        measurements: try requirements.map { try measure($0, finding, answers) }, finding: finding, run: text.run)
    }
  }

  private func measure(
    _ requirement: Requirement, _ finding: ModelFinding?, _ answers: [QuestionFile: TaskFigure]
  ) throws -> Measurement {
    guard let data = requirement.data, let own = answers[data] else {
      guard let value = finding.flatMap(requirement.figure.value) else {
        throw Refusal(
          "require-figure", "the model gives no \(requirement.text.prefix { $0 != "<" && $0 != ">" })",
          remedy: "require a figure that it gives: \(Gate.names(finding))")
      }
      let error = requirement.figure == .perplexityRatio ? finding?.perplexity?.standardError : nil
      return Measurement(requirement: requirement, value: value, standardError: error)
    }
    guard case .accuracyDrop = requirement.figure, let reference = outcomes[data]?.primary else {
      return Measurement(requirement: requirement, value: own.value, standardError: own.standardError)
    }
    return Measurement(
      requirement: requirement, value: (reference.value - own.value) * 100, standardError: nil,
      reference: reference.value)
  }

  private static func outcome(
    of data: QuestionFile, _ model: LanguageModel, limit: Int? = nil, _ observer: WorkObserver
  ) throws -> TaskOutcome {
    try model.evaluate(
      EvaluationTask.named(data.task), data: data.path, limit: limit, observing: observer.begin(.answering))
  }

  private static func names(_ finding: ModelFinding?) -> String {
    Requirement.Figure.ofText.filter { finding.flatMap($0.figure.value) != nil }.map(\.name).joined(separator: ", ")
  }
}

extension PackedModel {
  /// Hands over a file that does not have its name yet, and closes it.
  ///
  /// - Parameters:
  ///   - path: of the file.
  ///   - name: what refusals call it.
  /// - Throws: `Refusal` with a rule `otq-…`, and what `body` throws.
  static func unfinished<Result>(
    _ path: String, named name: String, _ body: (PackedModel) throws -> Result
  ) throws -> Result {
    do {
      // By its bytes, since its name is still that of an unfinished file.
      return try body(PackedModel(Container(MappedFile(path: path))))
    } catch var refusal as Refusal where refusal.file == path {
      refusal.file = name
      throw refusal
    }
  }
}

extension Requirement.Figure {
  /// Its value among those of a comparison; nil where it has none.
  fileprivate func value(of finding: ModelFinding) -> Double? {
    switch self {
    case .perplexityRatio: finding.perplexity?.ratio
    case .divergence: finding.divergence?.mean
    case .divergence99: finding.divergence?.percentile99
    case .greatestDivergence: finding.divergence?.maximum
    case .agreement: finding.divergence?.top1Agreement
    case .cosine: finding.similarities.map(\.mean).min()
    case .accuracy, .accuracyDrop: nil
    }
  }
}
