import OTGraph

extension HTMLReport {
  /// Activations, a card for each site, a fold for each block.
  var sites: Markup {
    guard let run = report.run, !run.sites.isEmpty else { return .empty }
    var groups: [(title: String, sites: [(index: Int, finding: SiteFinding)])] = []
    for (index, site) in run.sites.enumerated() {
      let block = LayerPlace(name: site.site.producer).block ?? LayerPlace(name: site.site.consumers[0]).block
      let title = block.map { "Block \($0)" } ?? "Outside the blocks"
      if groups.last?.title != title { groups.append((title, [])) }
      groups[groups.count - 1].sites.append((index, site))
    }
    let folds = groups.enumerated().map { index, group in
      let ratio = group.sites.map(\.finding.sourceRanges.outlierRatio).max() ?? 1
      let summary =
        Markup(group.title)
        + .element(
          "span", ["class": "muted"],
          Markup(" · \(group.sites.count) sites, outlier ratio up to \(ReportNumber.short(ratio))"))
      return fold(
        summary, isOpen: index == 0,
        .element("div", ["class": "cards"], .lines(group.sites.map { card($0.finding, at: $0.index) })))
    }
    return section(
      "activations", "Activations",
      "Least and greatest value of each channel of what linears read. Where a channel reaches far beyond the others, integers "
        + "of one step are wasted on it: symmetrization centres channels on 0, static scales give each its own step. "
        + "The outlier ratio is that of the widest channel to the median one.",
      .element(
        "ul", ["class": "legend"], .element("li", [:], .element("span", ["class": "key before"]), "source"),
        .element("li", [:], .element("span", ["class": "key after"]), "after symmetrization"),
        .element("li", [:], .element("span", ["class": "key steps"]), "in steps of the integers"),
        .element("li", [:], .element("span", ["class": "key limit"]), "ends of the integers' range")),
      beforeAndAfter(run.sites), .lines(folds))
  }

  /// The place of a site's card, by its number in the order of execution.
  static func place(ofSite index: Int) -> String { "site-\(index)" }

  /// What quantization does at each site alone, with the method and without; empty where it was not looked at.
  private func beforeAndAfter(_ sites: [SiteFinding]) -> Markup {
    let looked = sites.enumerated().compactMap { index, site in site.errors.map { (index, site, $0) } }
    guard !looked.isEmpty else { return .empty }
    let content = table(
      "Errors of each site alone, on the source's own values",
      [
        ("site", false), ("as they are", true), ("with the method", true), ("of the activation", true),
        ("of the weights", true), ("outlier ratio", true), ("with the method", true),
      ],
      looked.map { index, site, errors in
        [
          name(site.site.producer, to: HTMLReport.place(ofSite: index)),
          number(errors.untransformedOutput.map { ReportNumber.percent($0) } ?? "–"),
          number(ReportNumber.percent(errors.output)), number(ReportNumber.percent(errors.activation)),
          number(ReportNumber.percent(errors.weight)), number(ReportNumber.short(site.sourceRanges.outlierRatio)),
          number(site.transform.isIdentity ? "–" : ReportNumber.short(site.packedRanges.outlierRatio)),
        ]
      })
    return Markup.element(
      "p", ["class": "intro"],
      "Before the method and after it: ‖y − ŷ‖² / ‖y‖² of the outputs of the linears that read a site, where its channels stay as "
        + "they are, with a scale per token and weights to nearest, and as the file has it.")
      + (looked.count > 12 ? fold(Markup("All \(looked.count) sites, before and after"), content) : content)
  }

  private func card(_ site: SiteFinding, at index: Int) -> Markup {
    let name = site.site.producer
    var facts = [site.quantization.storageDescription, "\(site.site.size) channels"]
    facts.append("outlier ratio \(ReportNumber.short(site.sourceRanges.outlierRatio))")
    if !site.transform.isIdentity { facts[2] += " → \(ReportNumber.short(site.packedRanges.outlierRatio))" }
    if case .static = site.quantization, site.valueCount > 0 {
      facts.append("\(ReportNumber.percent(Double(site.clippedCount) / Double(site.valueCount))) clipped")
    }
    let parts = [
      site.transform.shift.map { _ in "shifted" }, site.transform.scale.map { _ in "scaled" },
      site.rotation.map { "rotated in blocks of \($0.blockSize)" },
    ].compactMap { $0 }
    if !parts.isEmpty { facts.append(parts.joined(separator: ", ")) }
    let block = LayerPlace(name: name).block
    let readers = site.site.consumers.enumerated().map { index, reader in
      let place = LayerPlace(name: reader)
      let text = Markup((index > 0 ? ", " : ""))
      let label = place.block == block ? place.label : reader
      guard let layer = report.run?.layers.firstIndex(where: { $0.name == reader }) else { return text + Markup(label) }
      return text + .element("a", ["href": "#\(HTMLReport.place(ofLayer: layer))"], Markup(label))
    }
    return .element(
      "article", ["class": "card", "id": HTMLReport.place(ofSite: index)],
      .lines(
        [
          .element("h3", [:], Markup(name)),
          .element("p", ["class": "muted"], Markup(facts.joined(separator: " · "))),
          .element("p", ["class": "muted readers"], [Markup("read by ")] + readers),
          tried(site), sourceChart(site),
        ] + stepChart(site) + [histograms(site)]))
  }

  /// The methods that were tried, the chosen one first; empty where the file tells of none.
  private func tried(_ site: SiteFinding) -> Markup {
    guard let chosen = site.chosenMethod else { return .empty }
    func text(_ trial: (method: String, error: Double)) -> String {
      "\(trial.method) \(trial.error.isFinite ? ReportNumber.percent(trial.error) : "–")"
    }
    let others = site.trials.filter { $0.method != chosen }.sorted { $0.error < $1.error }.map(text)
    let first = site.trials.filter { $0.method == chosen }.map(text)
    return .element(
      "p", ["class": "muted readers"],
      Markup("chosen by the error of the linears' outputs: \((first + others).joined(separator: "; "))"))
  }

  /// The source's ranges, with those after symmetrization where there was any.
  private func sourceChart(_ site: SiteFinding) -> Markup {
    var areas = [RangeChart.Area(style: "before", ranges: site.sourceRanges)]
    var description = "The source's values reach \(ReportNumber.short(Double(site.sourceRanges.largestMagnitude)))"
    if site.transform.shift != nil {
      areas.append(RangeChart.Area(style: "after", ranges: site.shiftedRanges))
      description +=
        ", after symmetrization \(ReportNumber.short(Double(site.shiftedRanges.largestMagnitude)))"
    }
    let chart = RangeChart(
      title: "Range of each channel of \(site.site.producer)", description: description + ".", areas: areas)
    return chart.figure(caption: site.transform.shift == nil ? "source" : "source, and after symmetrization")
  }

  private func stepChart(_ site: SiteFinding) -> [Markup] {
    guard case .static(let bits, _) = site.quantization else { return [] }
    let limit = Double(1 << (bits - 1))
    let chart = RangeChart(
      title: "Range of each channel of \(site.site.producer) in steps",
      description:
        "Values reach \(ReportNumber.short(Double(site.packedRanges.largestMagnitude))) steps; integers of \(bits) "
        + "bits go from −\(Int(limit)) to \(Int(limit) - 1).",
      areas: [RangeChart.Area(style: "steps", ranges: site.packedRanges)], lines: [-limit, limit - 1])
    return [chart.figure(caption: "in steps of the int\(bits)")]
  }

  private func histograms(_ site: SiteFinding) -> Markup {
    var pairs = [("source", "before", site.sourceHistogram)]
    if !site.transform.isIdentity {
      let isStatic = if case .static = site.quantization { true } else { false }
      pairs.append((isStatic ? "in steps" : "transformed", "steps", site.packedHistogram))
    }
    return .element(
      "div", ["class": "pair"],
      pairs.map { caption, style, histogram in
        let (counts, reach) = histogram.trimmed
        let chart = HistogramChart(
          title: "Histogram of \(site.site.producer), \(caption)",
          description:
            "\(histogram.total) values between −\(ReportNumber.short(reach)) and \(ReportNumber.short(reach)); "
            + "heights are logarithms of counts.", counts: counts)
        return .element(
          "figure", ["class": style], chart.svg ?? .empty,
          .element("figcaption", [:], Markup("histogram, \(caption): ±\(ReportNumber.short(reach))")))
      })
  }
}
