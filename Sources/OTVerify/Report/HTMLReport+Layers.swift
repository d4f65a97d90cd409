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
        + "judged; what lies between them is shown. A linear's name leads to the activation that it reads.",
      ErrorChart(run.layers, limit: limit)?.figure ?? .empty,
      table(
        "The worst of the layers that are judged, largest error first", columns,
        worst.prefix(HTMLReport.worstCount).map { row($0, scale: scale) }),
      fold(
        Markup("All \(run.layers.count) layers, in the order of execution"),
        table(
          "All layers", columns,
          run.layers.enumerated().map { row($1, scale: scale, id: HTMLReport.place(ofLayer: $0)) })))
  }

  /// The place of a layer among all, by its number in the order of execution.
  static func place(ofLayer index: Int) -> String { "layer-\(index)" }

  /// The place of the site that a layer reads; nil where it reads none that is shown.
  private func place(ofSiteOf layer: LayerFinding) -> String? {
    guard let index = report.run?.sites.firstIndex(where: { $0.site.producer == layer.site }) else { return nil }
    return HTMLReport.place(ofSite: index)
  }

  private func row(_ layer: LayerFinding, scale: Double, id: String? = nil) -> [Markup] {
    let error = layer.error
    let share = error.relativeError.isFinite ? min(error.relativeError / scale, 1) : 1
    let bar = Markup.element(
      "td", ["class": "number bar"],
      .element(
        "span", ["class": "fill", "style": "width:\(ReportNumber.fixed(share * 100, 1))%", "aria-hidden": "true"]),
      .element("span", ["class": "over"], Markup(ReportNumber.percent(error.relativeError))))
    return [
      layer.isJudged ? status(layer.faults) : .element("td", ["class": "muted"], "–"),
      name(layer.name, to: place(ofSiteOf: layer), id: id), cell(layer.kind.rawValue), cell(layer.scheme), bar,
      number(ReportNumber.fixed(error.cosine, 5)),
      number(ReportNumber.fixed(error.sqnrDecibels, 1)),
      number(error.worstChannel.map { "\($0.index): \(ReportNumber.percent($0.relativeError))" } ?? "–"),
    ]
  }

  /// Bits of each linear's weights and of what it reads, a row for each block; empty at level weights.
  var bits: Markup {
    guard let run = report.run else { return .empty }
    let linears = run.layers.filter { $0.kind == .linear }
    var labels: [String] = []
    var blocks: [(title: String, cells: [String: LayerFinding])] = []
    for layer in linears {
      let title = layer.place.block.map { "block \($0)" } ?? "outside the blocks"
      if !labels.contains(layer.place.label) { labels.append(layer.place.label) }
      // Experts of one block have one label each; of two layers with one name the first counts.
      guard let index = blocks.firstIndex(where: { $0.title == title }) else {
        blocks.append((title, [layer.place.label: layer]))
        continue
      }
      if blocks[index].cells[layer.place.label] == nil { blocks[index].cells[layer.place.label] = layer }
    }
    guard !blocks.isEmpty else { return .empty }
    func text(_ bits: Int?) -> String { bits.map { "\($0)" } ?? "float" }
    let content = table(
      "Bits of weights and, after the slash, of activations",
      [("", false)] + labels.map { ($0, true) },
      blocks.map { block in
        [name(block.title)]
          + labels.map { label in
            guard let layer = block.cells[label] else { return number("") }
            let style = layer.weightBits.map { " b\($0)" } ?? ""
            return .element(
              "td", ["class": "number bits\(style)"],
              Markup("\(text(layer.weightBits)) / \(text(layer.activationBits))"))
          }
      })
    var counts: [String: Int] = [:]
    for layer in linears { counts["\(text(layer.weightBits)) / \(text(layer.activationBits))", default: 0] += 1 }
    let summary = counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { "\($0.key) in \($0.value)" }
      .joined(separator: ", ")
    return section(
      "bits", "Bits", "Bits of the weights and of the activations of \(linears.count) linears: \(summary).",
      blocks.count > 12 ? fold(Markup("All \(blocks.count) rows"), content) : content)
  }
}
