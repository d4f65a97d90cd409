import OTFoundation

/// The result as one page to look at.
package struct HTMLReport: HTMLPage, Sendable {
  let report: VerificationReport

  /// A page about `report`.
  package init(_ report: VerificationReport) { self.report = report }

  /// The file and the verdict.
  package var title: String { "\(report.name): \(report.hasPassed ? "passed" : "failed")" }

  /// From the figures of the whole model to single tensors.
  package var sections: [Markup] {
    [tiles, faults, model, tasks, layers, bits, sites, weights, files]
  }

  // MARK: Parts

  func status(_ faults: [String]) -> Markup {
    guard let first = faults.first else { return .element("td", [:], .element("span", ["class": "ok"], "ok")) }
    return .element("td", [:], .element("span", ["class": "bad", "title": first], "failed"))
  }

  // MARK: Head and foot

  /// The file, the verdict, and what the models were run on.
  package var header: Markup {
    let verdict = report.hasPassed ? "Passed" : "Failed"
    var line = "Level \(report.level)"
    if let run = report.run { line += " · \(run.scheme.name)" }
    if let text = report.text {
      line +=
        " · \(ReportNumber.count(text.tokenCount)) tokens in \(text.sequenceCount) sequences of \(text.source)"
    }
    return head(
      command: "otconvert verify", title: report.name,
      mark: .element("span", ["class": "verdict \(report.hasPassed ? "ok" : "bad")"], Markup(verdict)), line: line)
  }

  /// What the errors mean.
  package var footer: Markup {
    .element(
      "footer", [:],
      .element(
        "p", [:],
        """
        Errors of layers are those of the whole model up to there: the packed model reads its own inputs. \
        Values of the packed model are brought back to the source's units before they are compared. \
        Sums are in double precision.
        """))
  }

  private var tiles: Markup {
    var tiles: [(label: String, value: String, note: String, isBad: Bool)] = []
    let quantized = report.weights.findings.compactMap(\.sqnrDecibels)
    tiles.append(
      (
        "Tensors", ReportNumber.count(report.weights.findings.count),
        report.weights.hasPassed ? "all match the source" : "\(report.weights.offenders.count) do not match",
        !report.weights.hasPassed
      ))
    if let least = quantized.min() {
      tiles.append(
        ("Least weight SQNR", "\(ReportNumber.fixed(least, 1)) dB", "of \(quantized.count) quantized", false))
    }
    if let run = report.run, let worst = run.layers.filter(\.isJudged).max(by: LayerFinding.isBetter) {
      tiles.append(
        (
          "Worst layer", ReportNumber.percent(worst.error.relativeError), worst.name, !run.offenders.isEmpty
        ))
    }
    if let model = report.run?.model {
      func isBad(_ figure: String) -> Bool { model.faults.contains { $0.figure == figure } }
      if let perplexity = model.perplexity {
        tiles.append(
          (
            "Perplexity", "\(ReportNumber.fixed(perplexity.packed, 2))",
            "the source's \(ReportNumber.fixed(perplexity.source, 2)); ratio \(ReportNumber.fixed(perplexity.ratio, 4))",
            isBad("perplexity ratio")
          ))
      }
      if let divergence = model.divergence {
        tiles.append(
          (
            "Same next token", ReportNumber.percent(divergence.top1Agreement),
            "mean KL divergence \(ReportNumber.short(divergence.mean)) nats", isBad("top-1 agreement")
          ))
      }
      for similarity in model.similarities {
        tiles.append(
          (
            "Cosine of \(similarity.output)", ReportNumber.fixed(similarity.mean, 5),
            "least \(ReportNumber.fixed(similarity.minimum, 5))", isBad("mean cosine of \(similarity.output)")
          ))
      }
    }
    let size = report.files.first?.byteCount ?? 0
    let total = report.files.dropFirst().reduce(0) { $0 + $1.byteCount }
    tiles.append(
      (
        "Size", byteText(size),
        total > 0
          ? "\(ReportNumber.percent(Double(size) / Double(total))) of \(byteText(total))"
          : "",
        false
      ))
    return .element(
      "dl", ["class": "tiles"],
      tiles.map { tile in
        .element(
          "div", ["class": tile.isBad ? "tile bad" : "tile"], .element("dt", [:], Markup(tile.label)),
          .element("dd", ["class": "value"], Markup(tile.value)), .element("dd", ["class": "note"], Markup(tile.note)))
      })
  }

  private var faults: Markup {
    let faults = report.faults
    let notes = report.weights.notes
    guard !faults.isEmpty || !notes.isEmpty else { return .empty }
    let shown = faults.prefix(20).map { Markup.element("li", [:], Markup($0)) }
    let more =
      faults.count > 20
      ? [Markup.element("li", [:], Markup("and \(faults.count - 20) more, in the tables below"))] : []
    var parts: [Markup] = []
    if !faults.isEmpty {
      parts.append(.element("h2", [:], "What is wrong"))
      parts.append(.element("ul", ["class": "faults"], .lines(shown + more)))
    }
    if !notes.isEmpty {
      parts.append(.element("h2", [:], "Notes"))
      parts.append(.element("ul", [:], .lines(notes.map { .element("li", [:], Markup($0)) })))
    }
    return .element("section", ["id": "faults"], .lines(parts))
  }

  private var files: Markup {
    let rows = report.files.enumerated().map { index, file in
      [
        name(file.name), cell(index == 0 ? "packed" : "source"), number(byteText(file.byteCount)),
        Markup.element("td", ["class": "hash"], Markup(file.sha256)),
      ]
    }
    let facts = report.facts.map { fact in
      Markup.element("div", [:], .element("dt", [:], Markup(fact.name)), .element("dd", [:], Markup(fact.value)))
    }
    return section(
      "files", "Files", "What was compared, and what the packed file says of itself.",
      .element("dl", ["class": "facts"], .lines(facts)),
      table("Files and their digests", [("file", false), ("role", false), ("size", true), ("SHA-256", false)], rows))
  }
}
