import OTGraph

extension HTMLReport {
  /// Activations, a card for each site, a fold for each block.
  var sites: Markup {
    guard let run = report.run, !run.sites.isEmpty else { return .empty }
    var groups: [(title: String, sites: [SiteFinding])] = []
    for site in run.sites {
      let block = LayerPlace(name: site.site.producer).block ?? LayerPlace(name: site.site.consumers[0]).block
      let title = block.map { "Block \($0)" } ?? "Outside the blocks"
      if groups.last?.title != title { groups.append((title, [])) }
      groups[groups.count - 1].sites.append(site)
    }
    let folds = groups.enumerated().map { index, group in
      let ratio = group.sites.map(\.sourceRanges.outlierRatio).max() ?? 1
      let summary = Markup.element(
        "summary", [:], Markup(group.title),
        .element(
          "span", ["class": "muted"],
          Markup(" · \(group.sites.count) sites, outlier ratio up to \(ReportNumber.short(ratio))")))
      let cards = Markup.element("div", ["class": "cards"], .lines(group.sites.map(card)))
      return index == 0
        ? Markup.element("details", ["open": ""], summary, cards) : Markup.element("details", [:], summary, cards)
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
      .lines(folds))
  }

  private func card(_ site: SiteFinding) -> Markup {
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
    let readers = site.site.consumers.map { reader in
      let place = LayerPlace(name: reader)
      return place.block == block ? place.label : reader
    }
    return .element(
      "article", ["class": "card"],
      .lines(
        [
          .element("h3", [:], Markup(name)),
          .element("p", ["class": "muted"], Markup(facts.joined(separator: " · "))),
          .element("p", ["class": "muted readers"], Markup("read by \(readers.joined(separator: ", "))")),
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
    return figure(chart, caption: site.transform.shift == nil ? "source" : "source, and after symmetrization")
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
    return [figure(chart, caption: "in steps of the int\(bits)")]
  }

  private func figure(_ chart: RangeChart, caption: String) -> Markup {
    let reach = ReportNumber.short(chart.reach)
    return .element(
      "figure", [:],
      .element(
        "div", ["class": "plot"],
        .element(
          "div", ["class": "scale"], .element("span", [:], Markup(reach)), .element("span", [:], "0"),
          .element("span", [:], Markup("−\(reach)"))), chart.svg),
      .element("figcaption", [:], Markup(caption)))
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
