import OTFoundation
import OTVerify

/// The text that `verify` prints for people.
struct VerificationText {
  private let report: VerificationReport

  init(_ report: VerificationReport) { self.report = report }

  /// The tables.
  var text: String {
    var parts = [VerificationText.table(report.weights)]
    if let run = report.run {
      parts.append("outputs of layers on \(textDescription), \(run.scheme.name)\n\n" + layers(run))
      if let model = run.model { parts.append(figures(model)) }
    }
    if !report.tasks.isEmpty { parts.append(tasks) }
    return parts.joined(separator: "\n\n")
  }

  /// What both models make of tasks.
  private var tasks: String {
    var table = TextTable([
      ("task", .left), ("items", .right), ("figure", .left), ("source", .right), ("packed", .right), ("flips", .right),
      ("p", .right),
    ])
    for task in report.tasks {
      for (index, figure) in task.figures.enumerated() {
        let isFirst = index == 0
        table.append([
          isFirst ? Refusal.printable("\(task.task), \(task.data)") : "", isFirst ? "\(task.itemCount)" : "",
          figure.name,
          fixed(figure.source, 4), fixed(figure.packed, 4) + (figure.standardError.map { " ± " + fixed($0, 4) } ?? ""),
          isFirst ? task.flips.map { "+\($0.gained) −\($0.lost)" } ?? "" : "",
          isFirst ? task.flips.map { fixed($0.p, 4) } ?? "" : "",
        ])
      }
    }
    return table.text
  }

  func verdict(reference: String) -> String {
    var text = "verified: \(report.weights.findings.count) tensors match \(reference)"
    if let run = report.run { text += ", \(run.layers.count) layers are within tolerance" }
    return text
  }

  private var textDescription: String {
    guard let text = report.text else { return "" }
    return "\(text.tokenCount) tokens of \(Refusal.printable(text.source))"
  }

  static func table(_ result: WeightVerification) -> String {
    var table = TextTable([
      ("tensor", .left), ("stored as", .left), ("SQNR dB", .right), ("max error", .right), ("outputs", .right),
      ("", .left),
    ])
    for finding in result.findings {
      let isQuantized = finding.sqnrDecibels != nil
      table.append([
        Refusal.printable(finding.name), Refusal.printable(finding.storage),
        finding.sqnrDecibels.map { $0.isFinite ? fixed($0, 2) : "∞" } ?? "",
        isQuantized
          ? "\(fixed(finding.maximumError, 4)) step"
          : finding.maximumError == 0 ? "exact" : "\(Float(finding.maximumError))",
        finding.outputErrors.map { "\(fixed($0.ratio, 3)) of nearest" } ?? "",
        finding.faults.isEmpty ? "ok" : "FAILED",
      ])
    }
    return table.text
  }

  private func layers(_ run: RunVerification) -> String {
    var table = TextTable([
      ("layer", .left), ("kind", .left), ("rel. error", .right), ("cosine", .right), ("SQNR dB", .right),
      ("worst channel", .right), ("", .left),
    ])
    for finding in run.layers {
      let error = finding.error
      table.append([
        Refusal.printable(finding.name), finding.kind.rawValue, "\(fixed(error.relativeError * 100, 2)) %",
        fixed(error.cosine, 5), error.sqnrDecibels.isFinite ? fixed(error.sqnrDecibels, 2) : "∞",
        error.worstChannel.map { "\($0.index): \(fixed($0.relativeError * 100, 1)) %" } ?? "",
        finding.faults.isEmpty ? "ok" : "FAILED",
      ])
    }
    return table.text
  }

  private func figures(_ model: ModelFinding) -> String {
    var lines: [String] = []
    if let perplexity = model.perplexity {
      lines += [
        "perplexity     \(fixed(perplexity.packed, 4)), the source's \(fixed(perplexity.source, 4))",
        "ratio          \(fixed(perplexity.ratio, 5)) ± \(fixed(perplexity.standardError, 5))",
      ]
    }
    if let divergence = model.divergence {
      lines += [
        "KL divergence  mean \(fixed(divergence.mean, 6)), 99 % \(fixed(divergence.percentile99, 6)), "
          + "maximum \(fixed(divergence.maximum, 6)) nats",
        "top-1          \(fixed(divergence.top1Agreement * 100, 2)) % the same",
      ]
    }
    for similarity in model.similarities {
      lines.append(
        "cosine         \(similarity.output): mean \(fixed(similarity.mean, 6)), "
          + "minimum \(fixed(similarity.minimum, 6))")
    }
    return lines.joined(separator: "\n")
  }
}
