import OTConversion
import OTFoundation
import OTJSON
import OTModel
import OTRuntime
import OTVerify

/// A converted file beside its source, on text of the kind that it was calibrated on but not on that itself.
package struct HeldOutText: Sendable {
  /// Samples that are kept from calibration, where the text has as many.
  package static let sampleCount = 4

  private let finding: ModelFinding
  private let count: Int

  /// What was measured elsewhere.
  init(_ finding: ModelFinding, count: Int) { (self.finding, self.count) = (finding, count) }

  /// Nil where no text was held out, or the file cannot be run.
  ///
  /// - Throws: as executors throw.
  package init?(_ samples: Calibration.Samples?, plan: ConversionPlan, file: PackedModel, threadCount: Int) throws {
    guard let heldOut = samples?.heldOut, !heldOut.isEmpty, let graph = file.graph, !graph.outputs.isEmpty else {
      return nil
    }
    finding = try ModelFinding(
      packed: QuantizedExecutor(graph: graph, container: file.container, threadCount: threadCount),
      source: FloatExecutor(graph: plan.model.graph(), parameters: plan.model.parameters, threadCount: threadCount),
      weights: StoredWeights(graph: graph, container: file.container), sequences: heldOut, file: file.path,
      threadCount: threadCount)
    count = heldOut.count
  }

  /// What is outside the default tolerance, a line each.
  package var warnings: [String] {
    finding.faults.map { "on text that it was not calibrated on, the file's \($0.figure) \($0.message)" }
  }

  /// One line.
  package var text: String {
    var figures: [String] = []
    if let divergence = finding.divergence { figures.append("KL \(fixed(divergence.mean, 4)) nats") }
    if let perplexity = finding.perplexity {
      figures.append("perplexity ratio \(fixed(perplexity.ratio, 4)) ± \(fixed(perplexity.standardError, 4))")
    }
    figures += finding.similarities.map { "mean cosine of \($0.output) \(fixed($0.mean, 5))" }
    return "against the source, on \(count) samples that were held out: \(figures.joined(separator: ", "))"
  }

  /// `{samples, klMean, perplexityRatio, perplexityRatioStandardError}` and cosines by output.
  package var json: JSONValue {
    func value(_ value: Double?) -> JSONValue { value.flatMap { $0.isFinite ? .number($0) : nil } ?? .null }
    var members: JSONObject = ["samples": .integer(count)]
    if let divergence = finding.divergence { members["klMean"] = value(divergence.mean) }
    if let perplexity = finding.perplexity {
      members["perplexityRatio"] = value(perplexity.ratio)
      members["perplexityRatioStandardError"] = value(perplexity.standardError)
    }
    for similarity in finding.similarities { members["cosineMean.\(similarity.output)"] = value(similarity.mean) }
    return .object(members)
  }
}
