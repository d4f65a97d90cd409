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
  /// - Throws: as executors throw, and what the observer throws.
  package init?(
    _ samples: Calibration.Samples?, plan: ConversionPlan, file: PackedModel, threadCount: Int, _ observer: WorkObserver
  ) throws {
    guard let heldOut = samples?.heldOut,
      let finding = try ModelFinding(
        of: file, source: plan.model, sequences: heldOut, threadCount: threadCount, progress: observer.begin(.running))
    else { return nil }
    self.init(finding, count: heldOut.count)
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
    var members: JSONObject = ["samples": .integer(count)]
    if let divergence = finding.divergence { members["klMean"] = .finite(divergence.mean) }
    if let perplexity = finding.perplexity {
      members["perplexityRatio"] = .finite(perplexity.ratio)
      members["perplexityRatioStandardError"] = .finite(perplexity.standardError)
    }
    for similarity in finding.similarities { members["cosineMean.\(similarity.output)"] = .finite(similarity.mean) }
    return .object(members)
  }
}
