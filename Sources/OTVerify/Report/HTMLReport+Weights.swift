extension HTMLReport {
  /// Every tensor, with the histogram of its codes.
  var weights: Markup {
    let findings = report.weights.findings
    let rows = findings.map { finding in
      [
        status(finding.faults), name(finding.name), cell(finding.storage), histogram(finding),
        number(finding.sqnrDecibels.map { ReportNumber.fixed($0, 1) } ?? ""), number(maximumError(finding)),
        number(finding.outputErrors.map { ReportNumber.fixed($0.ratio, 3) } ?? ""),
      ]
    }
    let content = table(
      "Tensors of the source, in its order",
      [
        ("", false), ("tensor", false), ("stored as", false), ("codes", false), ("SQNR dB", true),
        ("largest error", true), ("outputs", true),
      ], rows)
    let quantized = findings.count { $0.sqnrDecibels != nil }
    return section(
      "weights", "Weights",
      "Every weight was computed again from the source. The histograms count the integers of a tensor, from the least code to "
        + "the greatest; heights are logarithms. Outputs: what a linear's outputs lose on text, relative to what they lose with each weight rounded to nearest.",
      findings.count > 40
        ? .element(
          "details", [:],
          .element("summary", [:], Markup("All \(findings.count) tensors, \(quantized) of them quantized")), content)
        : content)
  }

  private func histogram(_ finding: TensorFinding) -> Markup {
    let total = finding.codeCounts.reduce(0, +)
    let chart = HistogramChart(
      title: "Codes of \(finding.name)", description: "\(total) codes from 0 to \(finding.codeCounts.count - 1).",
      counts: finding.codeCounts)
    return .element("td", ["class": "spark"], chart.svg ?? .empty)
  }

  private func maximumError(_ finding: TensorFinding) -> String {
    if finding.sqnrDecibels != nil { return "\(ReportNumber.fixed(finding.maximumError, 4)) step" }
    return finding.maximumError == 0 ? "exact" : ReportNumber.short(finding.maximumError)
  }
}
