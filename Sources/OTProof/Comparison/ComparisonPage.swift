import OTFoundation
import OTObservation
import OTQ
import OTVerify

/// The results of a comparison as one page.
package struct ComparisonPage: HTMLPage {
  /// Sites whose ranges are drawn: those with the greatest outliers.
  private static let drawnSiteCount = 8

  private let result: ComparisonRecord
  private let table: ComparisonTable

  /// A page about results.
  package init(_ result: ComparisonRecord) {
    self.result = result
    table = ComparisonTable(result)
  }

  private var name: String { result.facts.first { $0.name == "model" }?.value ?? "model" }

  private var measured: [(index: Int, row: ComparisonRow, figures: RowFigures)] {
    result.entries.enumerated().compactMap { index, entry in entry.outcome.figures.map { (index, entry.row, $0) } }
  }

  /// The model, and how many rows there are.
  package var title: String { "\(name): \(measured.count) conversions" }

  /// The model, and what it was measured on.
  package var header: Markup {
    head(
      command: "otconvert compare", title: name,
      line: result.facts.filter { $0.name != "model" }.map { "\($0.name): \($0.value)" }.joined(separator: " · "))
  }

  /// The plot, the table, and sites where they were looked at.
  package var sections: [Markup] { [plot, rows, sites] }

  /// What the figures are.
  package var footer: Markup {
    .element(
      "footer", [:],
      .element(
        "p", [:],
        """
        Every row is a file of its own, which was run as packed. KL divergence is that of its distributions from the \
        source's, the source running in float32; the ratio is that of perplexities. Bits per weight are those of the \
        blocks' linears on disk, scales and zero points included. Seconds and tokens per second are those of the machine \
        that made the row.
        """))
  }

  // MARK: Size against distance

  private var plot: Markup {
    let usesBits = result.peers.contains { if case .bitsPerWeight = $0.size { true } else { false } }
    func size(_ figures: RowFigures) -> Double? {
      usesBits ? figures.linearBitsPerWeight : Double(figures.byteCount) / 1e6
    }
    func point(_ row: ComparisonRow, _ figures: RowFigures) -> ScatterChart.Point? {
      guard let size = size(figures), let distance = figures.distance else { return nil }
      let unit = usesBits ? "bits per weight" : "MB"
      return ScatterChart.Point(
        x: size, y: distance,
        label: "\(row.title) \(row.setting): \(ReportNumber.fixed(size, 2)) \(unit), \(ReportNumber.short(distance))")
    }
    var names: [String] = []
    for entry in measured where !names.contains(entry.row.title) { names.append(entry.row.title) }
    let series = names.map { name in
      ScatterChart.Series(
        name: name, points: measured.filter { $0.row.title == name }.compactMap { point($0.row, $0.figures) })
    }
    let isDivergence = measured.contains { $0.figures.divergence != nil }
    // Peers have a divergence, and no place among cosines.
    let marks = (isDivergence || measured.isEmpty ? result.peers : []).compactMap { peer -> ScatterChart.Point? in
      switch peer.size {
      case .byteCount(let count) where !usesBits:
        ScatterChart.Point(x: Double(count) / 1e6, y: peer.divergence, label: peer.name)
      case .bitsPerWeight(let bits) where usesBits: ScatterChart.Point(x: bits, y: peer.divergence, label: peer.name)
      default: nil
      }
    }
    let distance = isDivergence || measured.isEmpty ? "mean KL divergence, nats" : "1 − least mean cosine"
    guard
      let chart = ScatterChart(
        title: "Size and \(distance)",
        names: (usesBits ? "bits per weight of linears" : "size of the file, MB", distance),
        series: series.filter { !$0.points.isEmpty }, marks: marks)
    else { return .empty }
    return section(
      "size", "Size and loss",
      "A point for each file: to the left is smaller, below is closer to the source. Points of one method are joined in the order of "
        + "their size.", chart.figure)
  }

  // MARK: The table

  private var rows: Markup {
    let columns = table.columns.map { ($0.title, $0.isNumber) }
    let names = table.columns.prefix { !$0.isNumber }.count
    let rows = table.rows.enumerated().map { index, cells in
      zip(table.columns, cells).enumerated().map { column, cell in
        column == names - 2
          ? name(cell.1, to: place(ofRow: index)) : cell.0.isNumber ? number(cell.1) : self.cell(cell.1)
      }
    }
    var content = [self.table("The source, then every row", columns, rows)]
    if !table.refusals.isEmpty {
      content.append(
        .element(
          "ul", ["class": "muted"],
          .lines(
            table.refusals.sorted { $0.key < $1.key }.map { index, reason in
              .element("li", [:], Markup("\(table.rowName(index)): \(reason)"))
            })))
    }
    if !result.peers.isEmpty {
      content.append(
        self.table(
          "Other programs' files, as they were given", [("program", false), ("size", true), ("KL, nats", true)],
          result.peers.map { peer in
            [
              name(peer.name),
              number(text(peer.size)), number(ReportNumber.fixed(peer.divergence, 5)),
            ]
          }))
    }
    return section(
      "rows", "Conversions", "Each row was converted, and its file was run on the same text as the source.",
      .lines(content))
  }

  private func text(_ size: Peer.Size) -> String {
    switch size {
    case .byteCount(let count): byteText(count)
    case .bitsPerWeight(let bits): "\(ReportNumber.fixed(bits, 3)) bits/weight"
    }
  }

  /// The place of a row's sites; nil where they were not looked at.
  private func place(ofRow index: Int) -> String? {
    guard index > 0, result.entries[index - 1].outcome.figures?.sites.isEmpty == false else { return nil }
    return "row-\(index)"
  }

  // MARK: Sites

  private var sites: Markup {
    let looked = measured.filter { !$0.figures.sites.isEmpty }
    guard !looked.isEmpty else { return .empty }
    let folds = looked.enumerated().map { position, entry in
      Markup.element(
        "section", ["id": "row-\(entry.index + 1)"],
        fold(
          Markup("\(entry.row.title) \(entry.row.setting)")
            + .element(
              "span", ["class": "muted"],
              Markup(" · outputs of sites differ by up to \(ReportNumber.percent(worst(entry.figures)))")),
          isOpen: position == 0, siteTable(entry), .element("div", ["class": "cards"], cards(entry.figures.sites))))
    }
    return section(
      "sites", "Sites",
      "Each site alone, on the source's own values: the least and the greatest value of any channel as it is, after the shift "
        + "and after the scale (in steps where one static scale serves a site), and ‖v − v̂‖² / ‖v‖² of the activation, of the "
        + "weights behind it and of the outputs of these. On the right the outputs' error where channels stay as they are: a scale "
        + "for each token, weights to nearest.",
      .element(
        "ul", ["class": "legend"], .element("li", [:], .element("span", ["class": "key before"]), "source"),
        .element("li", [:], .element("span", ["class": "key after"]), "after the shift"),
        .element("li", [:], .element("span", ["class": "key steps"]), "after the scale")), .lines(folds))
  }

  private func worst(_ figures: RowFigures) -> Double { figures.sites.map(\.output.relative).max() ?? 0 }

  private func siteTable(_ entry: (index: Int, row: ComparisonRow, figures: RowFigures)) -> Markup {
    func reach(_ ranges: ChannelRanges, _ isThere: Bool) -> String {
      guard isThere else { return "–" }
      let reach = SiteFigures.reach(ranges)
      return "\(ReportNumber.short(reach.lowerBound)) … \(ReportNumber.short(reach.upperBound))"
    }
    return table(
      "Sites of \(entry.row.title) \(entry.row.setting)",
      [
        ("site", false), ("activation", false), ("weights", false), ("range", true), ("after shift", true),
        ("after scale", true), ("error of activation", true), ("of weights", true), ("of outputs", true),
        ("as they are", true),
      ],
      entry.figures.sites.map { site in
        [
          name(site.producer), cell(site.activationScheme), cell(site.weightScheme), number(reach(site.ranges, true)),
          number(reach(site.shiftedRanges, site.isShifted)), number(reach(site.scaledRanges, site.isScaled)),
          number(ReportNumber.percent(site.activation.relative)), number(ReportNumber.percent(site.weight.relative)),
          number(ReportNumber.percent(site.output.relative)),
          number(site.untransformed.map { ReportNumber.percent($0.relative) } ?? "–"),
        ]
      })
  }

  /// The ranges of those with the greatest outliers: before, after the shift, after the scale.
  private func cards(_ sites: [SiteFigures]) -> [Markup] {
    let chosen = sites.enumerated().sorted { $0.element.ranges.outlierRatio > $1.element.ranges.outlierRatio }
      .prefix(ComparisonPage.drawnSiteCount).sorted { $0.offset < $1.offset }.map(\.element)
    return chosen.map { site in
      var areas = [RangeChart.Area(style: "before", ranges: site.ranges)]
      if site.isShifted { areas.append(RangeChart.Area(style: "after", ranges: site.shiftedRanges)) }
      let chart = RangeChart(
        title: "Range of each channel of \(site.producer)",
        description: "Values reach \(ReportNumber.short(Double(site.ranges.largestMagnitude)))"
          + (site.isShifted
            ? ", after the shift \(ReportNumber.short(Double(site.shiftedRanges.largestMagnitude)))." : "."),
        areas: areas)
      var figures = [chart.figure(caption: site.isShifted ? "source, and after the shift" : "source")]
      if site.isScaled {
        figures.append(
          RangeChart(
            title: "Range of each channel of \(site.producer) after the scale",
            description: "Values reach \(ReportNumber.short(Double(site.scaledRanges.largestMagnitude))).",
            areas: [RangeChart.Area(style: "steps", ranges: site.scaledRanges)]
          ).figure(caption: "after the scale"))
      }
      let ratio = ReportNumber.short(site.ranges.outlierRatio)
      return .element(
        "article", ["class": "card"],
        .lines(
          [
            .element("h3", [:], Markup(site.producer)),
            .element(
              "p", ["class": "muted readers"],
              Markup(
                "outlier ratio \(ratio)"
                  + (site.isScaled ? " → \(ReportNumber.short(site.scaledRanges.outlierRatio))" : "")
                  + " · read by \(site.consumers.joined(separator: ", "))")),
          ] + figures))
    }
  }
}
