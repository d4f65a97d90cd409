import OTJSON
import OTModel

/// All that `verify` found of a packed file.
package struct VerificationReport: Sendable {
  /// The text or tokens that the models were run on.
  package struct Text: Sendable, Hashable {
    /// In words: the names of files, or of the sample.
    package let source: String
    /// Sequences.
    package let sequenceCount: Int
    /// Tokens of all sequences.
    package let tokenCount: Int

    /// Text by its name and size.
    package init(source: String, sequenceCount: Int, tokenCount: Int) {
      (self.source, self.sequenceCount, self.tokenCount) = (source, sequenceCount, tokenCount)
    }
  }

  /// The packed file's path, as the user gave it.
  package let path: String
  /// The packed file, then those it was compared with; empty where nothing shows them, since
  /// digests take a while.
  package let files: [FileRecord]
  /// Facts for people: family, method and the like, with their names.
  package let facts: [(name: String, value: String)]
  /// Every tensor.
  package let weights: WeightVerification
  /// Layers, sites and outputs; nil at level weights.
  package let run: RunVerification?
  /// The text or tokens that the models were run on; nil at level weights.
  package let text: Text?
  /// What both models make of tasks, where any were given.
  package var tasks: [TaskFinding] = []

  /// A report of what was found.
  package init(
    path: String, files: [FileRecord], facts: [(name: String, value: String)],
    weights: WeightVerification, run: RunVerification?, text: Text?
  ) {
    (self.path, self.files, self.facts) = (path, files, facts)
    (self.weights, self.run, self.text) = (weights, run, text)
  }

  /// The packed file's name, without folders.
  package var name: String { path.split(separator: "/").last.map(String.init) ?? path }
  /// The deepest level that was verified.
  package var level: String { run == nil ? "weights" : run?.model == nil ? "layers" : "model" }
  /// True when nothing has a fault.
  package var hasPassed: Bool { weights.hasPassed && run?.hasPassed ?? true }

  /// Every fault, a sentence each: weights first, then layers with the first
  /// that is off and the worst before the others, then the model.
  package var faults: [String] {
    var sentences = weights.offenders.map { "'\($0.name)' \($0.faults[0])" }
    guard let run else { return sentences }
    if let first = run.offenders.first {
      let rest = run.offenders.dropFirst().sorted {
        // NaN first, then the largest.
        $0.error.relativeError.isNaN && !$1.error.relativeError.isNaN
          || $0.error.relativeError > $1.error.relativeError
      }
      sentences.append("layer '\(first.name)', the first to be off: \(first.faults[0])")
      sentences += rest.map { "layer '\($0.name)': \($0.faults[0])" }
    }
    sentences += (run.model?.faults ?? []).map { "\($0.figure) \($0.message)" }
    return sentences
  }
}
