extension LayerFinding {
  /// True when the second is worse: the larger relative error, NaN the largest.
  static func isBetter(_ first: LayerFinding, than second: LayerFinding) -> Bool {
    if second.error.relativeError.isNaN { return !first.error.relativeError.isNaN }
    return first.error.relativeError < second.error.relativeError
  }
}

extension HTMLReport {
  private static let worstCount = 10

  /// Errors of layers: a chart, the worst, all; empty at level weights.
  var layers: Markup {
    guard let run = report.run else { return .empty }
    let limit = run.tolerance.maximumLayerError.value(for: run.scheme)
    let worst = run.layers.filter(\.isJudged).sorted { LayerFinding.isBetter($1, than: $0) }
    let scale = worst.first.map { max($0.error.relativeError, 1e-12) } ?? 1
    let columns = [
      ("", false), ("layer", false), ("kind", false), ("stored as", false), ("relative error", true),
      ("cosine", true), ("SQNR dB", true), ("worst channel", true),
    ]
    return section(
      "layers", "Layers",
      "Relative error ‖y − ŷ‖ / ‖y‖ of the output of each layer, accumulated from the first to it. Linears and norms are "
        + "judged; what lies between them is shown.",
      ErrorChart(run.layers, limit: limit)?.figure ?? .empty,
      table(
        "The worst of the layers that are judged, largest error first", columns,
        worst.prefix(HTMLReport.worstCount).map { row($0, scale: scale) }),
      .element(
        "details", [:], .element("summary", [:], Markup("All \(run.layers.count) layers, in the order of execution")),
        table("All layers", columns, run.layers.map { row($0, scale: scale) })))
  }

  private func row(_ layer: LayerFinding, scale: Double) -> [Markup] {
    let error = layer.error
    let share = error.relativeError.isFinite ? min(error.relativeError / scale, 1) : 1
    let bar = Markup.element(
      "td", ["class": "number bar"],
      .element(
        "span", ["class": "fill", "style": "width:\(ReportNumber.fixed(share * 100, 1))%", "aria-hidden": "true"]),
      .element("span", ["class": "over"], Markup(ReportNumber.percent(error.relativeError))))
    return [
      layer.isJudged ? status(layer.faults) : .element("td", ["class": "muted"], "–"),
      name(layer.name), cell(layer.kind.rawValue), cell(layer.scheme), bar, number(ReportNumber.fixed(error.cosine, 5)),
      number(ReportNumber.fixed(error.sqnrDecibels, 1)),
      number(error.worstChannel.map { "\($0.index): \(ReportNumber.percent($0.relativeError))" } ?? "–"),
    ]
  }
}
