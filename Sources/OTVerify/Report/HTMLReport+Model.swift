extension HTMLReport {
  /// Figures of the model's outputs; empty below level model.
  var model: Markup {
    guard let run = report.run, let model = run.model else { return .empty }
    let tolerance = run.tolerance
    let scheme = run.scheme
    func status(_ figure: String) -> Markup {
      self.status(model.faults.filter { $0.figure == figure }.map { "\($0.figure) \($0.message)" })
    }
    var rows: [[Markup]] = []
    if let perplexity = model.perplexity {
      rows.append([
        name("Perplexity, packed"), number(ReportNumber.fixed(perplexity.packed, 3)), number(""), cell(""),
      ])
      rows.append([
        name("Perplexity, source"), number(ReportNumber.fixed(perplexity.source, 3)), number(""), cell(""),
      ])
      rows.append([
        name("Ratio"),
        number("\(ReportNumber.fixed(perplexity.ratio, 4)) ± \(ReportNumber.fixed(perplexity.standardError, 4))"),
        number("≤ \(ReportNumber.fixed(tolerance.maximumPerplexityRatio.value(for: scheme), 3))"),
        status("perplexity ratio"),
      ])
    }
    if let divergence = model.divergence {
      rows.append([
        name("KL divergence, mean"), number("\(ReportNumber.short(divergence.mean)) nats"),
        number("≤ \(ReportNumber.short(tolerance.maximumMeanDivergence.value(for: scheme)))"),
        status("mean KL divergence"),
      ])
      rows.append([
        name("KL divergence, 99 % of tokens below"), number("\(ReportNumber.short(divergence.percentile99)) nats"),
        number(""), cell(""),
      ])
      rows.append([
        name("KL divergence, largest"), number("\(ReportNumber.short(divergence.maximum)) nats"), number(""), cell(""),
      ])
      rows.append([
        name("Same likeliest next token"), number(ReportNumber.percent(divergence.top1Agreement)),
        number("≥ \(ReportNumber.percent(tolerance.minimumTop1Agreement.value(for: scheme)))"),
        status("top-1 agreement"),
      ])
    }
    for similarity in model.similarities {
      rows.append([
        name("Cosine of \(similarity.output), mean"), number(ReportNumber.fixed(similarity.mean, 6)),
        number("≥ \(ReportNumber.fixed(tolerance.minimumOutputCosine.value(for: scheme), 4))"),
        status("mean cosine of \(similarity.output)"),
      ])
      rows.append([
        name("Cosine of \(similarity.output), least"), number(ReportNumber.fixed(similarity.minimum, 6)), number(""),
        cell(""),
      ])
    }
    return section(
      "model", "Model",
      "What both models make of the same text. The standard error of the ratio takes tokens as independent.",
      table(
        "Outputs of the model", [("figure", false), ("value", true), ("tolerance", true), ("verdict", false)], rows))
  }

  /// What both models make of tasks, and the answers that flipped; empty where none were given.
  var tasks: Markup {
    guard !report.tasks.isEmpty else { return .empty }
    let rows = report.tasks.flatMap { task in
      task.figures.enumerated().map { index, figure in
        let flips = index == 0 ? task.flips : nil
        return [
          name(index == 0 ? "\(task.task), \(task.data)" : ""), number(index == 0 ? "\(task.itemCount)" : ""),
          cell(figure.name), number(ReportNumber.fixed(figure.source, 4)),
          number(
            ReportNumber.fixed(figure.packed, 4)
              + (figure.standardError.map { " ± \(ReportNumber.fixed($0, 4))" } ?? "")),
          number(flips.map { "+\($0.gained) −\($0.lost)" } ?? ""), number(flips.map { "\($0.changed)" } ?? ""),
          number(flips.map { ReportNumber.fixed($0.p, 3) } ?? ""),
        ]
      }
    }
    return section(
      "tasks", "Tasks",
      "Both models on the same items. Flips are answers that became right and that became wrong; p is the probability that chance "
        + "alone makes such a difference (McNemar's exact test).",
      table(
        "Tasks",
        [
          ("task", false), ("items", true), ("figure", false), ("source", true), ("packed", true), ("flips", true),
          ("other answers", true), ("p", true),
        ], rows))
  }
}
