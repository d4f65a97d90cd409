import OTFoundation
import OTVerify

/// The results as rows of text: what standard output, Markdown and the page show.
package struct ComparisonTable {
  /// A column.
  package struct Column: Sendable {
    /// Its heading.
    package let title: String
    /// True when its cells are numbers.
    package let isNumber: Bool
    /// The cell of a row; empty where there is nothing to say.
    let cell: @Sendable (_ row: ComparisonRow?, _ figures: RowFigures?) -> String
  }

  /// The columns for which any row has something to say.
  package let columns: [Column]
  /// Their cells: the source first, then the rows in their order.
  package let rows: [[String]]
  /// What keeps rows from being had, by the row's index in `rows`.
  package let refusals: [Int: String]

  /// A table of results.
  package init(_ result: ComparisonRecord) {
    var columns: [Column] = []
    if result.entries.contains(where: { $0.row.group != nil }) {
      columns.append(Column(title: "table", isNumber: false) { row, _ in row?.group ?? "" })
    }
    columns += [
      Column(title: "method", isNumber: false) { row, _ in row?.title ?? "source" },
      Column(title: "setting", isNumber: false) { row, _ in row?.setting.description ?? "float" },
    ]
    columns += ComparisonTable.outputs + ComparisonTable.tasks(result) + ComparisonTable.costs
    let rows =
      [(ComparisonRow?.none, result.source as RowFigures?)] + result.entries.map { ($0.row, $0.outcome.figures) }
    // The first columns say which row it is.
    let shown = columns.filter { column in
      !column.isNumber || rows.contains { !column.cell($0.0, $0.1).isEmpty }
    }
    self.columns = shown
    self.rows = rows.map { row in shown.map { $0.cell(row.0, row.1) } }
    refusals = result.entries.enumerated().reduce(into: [:]) { refusals, entry in
      if case .refused(let refusal) = entry.element.outcome { refusals[entry.offset + 1] = refusal.description }
      if case .missing = entry.element.outcome { refusals[entry.offset + 1] = "not measured yet" }
    }
  }

  private static func number(
    _ title: String, _ places: Int, _ value: @escaping @Sendable (RowFigures) -> Double?
  ) -> Column {
    Column(title: title, isNumber: true) { _, figures in
      figures.flatMap(value).map { ReportNumber.fixed($0, places) } ?? ""
    }
  }

  private static let outputs: [Column] = [
    Column(title: "perplexity", isNumber: true) { _, figures in
      figures?.perplexity.map { $0 < 10_000 ? ReportNumber.fixed($0, 3) : ReportNumber.short($0) } ?? ""
    },
    Column(title: "ratio", isNumber: true) { _, figures in
      figures?.perplexityRatio.map { $0 < 100 ? ReportNumber.fixed($0, 4) : ReportNumber.short($0) } ?? ""
    },
    // Less than five places show is still told from nothing.
    Column(title: "KL, nats", isNumber: true) { _, figures in
      figures?.divergence.map {
        $0.mean != 0 && $0.mean < 1e-4 ? ReportNumber.short($0.mean) : ReportNumber.fixed($0.mean, 5)
      } ?? ""
    },
    Column(title: "top-1 the same", isNumber: true) { _, figures in
      figures?.divergence.map { ReportNumber.percent($0.top1Agreement) } ?? ""
    },
    cosine("hidden"), cosine("pooled"),
  ]

  private static func cosine(_ output: String) -> Column {
    number("cosine of \(output)", 5) { $0.similarities.first { $0.output == output }?.mean }
  }

  /// Columns for the first figure of each task, and for the answers that flipped.
  private static func tasks(_ result: ComparisonRecord) -> [Column] {
    let all = [result.source] + result.entries.compactMap { $0.outcome.figures }
    var names: [String] = []
    for task in all.flatMap(\.tasks) where !names.contains(task.name) { names.append(task.name) }
    return names.flatMap { name in
      let figure = all.lazy.flatMap(\.tasks).first { $0.name == name }?.figures.first?.name ?? ""
      let source = result.source.tasks.first { $0.name == name }
      @Sendable func task(_ figures: RowFigures?) -> TaskFigures? { figures?.tasks.first { $0.name == name } }
      return [
        Column(title: "\(name), \(figure)", isNumber: true) { _, figures in
          guard let figure = task(figures)?.figures.first else { return "" }
          return ReportNumber.fixed(figure.value, 4)
            + (figure.standardError.map { " ± \(ReportNumber.fixed($0, 4))" } ?? "")
        },
        // Answers that became right, and that became wrong.
        Column(title: "flips", isNumber: true) { row, figures in
          guard row != nil, let source, let flips = task(figures)?.flips(from: source) else { return "" }
          return "+\(flips.gained) −\(flips.lost)"
        },
      ]
    }
  }

  private static let costs = [
    number("bits/weight", 3) { $0.linearBitsPerWeight },
    Column(title: "MB", isNumber: true) { _, figures in
      figures.map { ReportNumber.fixed(Double($0.byteCount) / 1e6, $0.byteCount < 10_000_000 ? 3 : 1) } ?? ""
    },
    number("calibration s", 1) { $0.calibrationSeconds },
    number("tokens/s", 0) { $0.tokensPerSecond },
  ]

  /// The table in Markdown, with a list of what could not be had below.
  package var markdown: String {
    func line(_ cells: [String]) -> String { "| " + cells.map(ComparisonTable.escaped).joined(separator: " | ") + " |" }
    var lines = [line(columns.map(\.title)), line(columns.map { $0.isNumber ? "---:" : "---" })]
    lines += rows.map(line)
    if !refusals.isEmpty {
      lines.append("")
      lines += refusals.sorted { $0.key < $1.key }.map { index, reason in
        "- \(ComparisonTable.escaped(rowName(index))): \(ComparisonTable.escaped(reason))"
      }
    }
    return lines.joined(separator: "\n") + "\n"
  }

  /// The cells that say which row it is.
  package func rowName(_ index: Int) -> String {
    zip(columns, rows[index]).filter { !$0.0.isNumber && !$0.1.isEmpty }.map(\.1).joined(separator: " ")
  }

  /// Text that is neither a cell's end nor a line's.
  private static func escaped(_ text: String) -> String {
    Refusal.printable(text).replacing("|", with: "\\|")
  }
}
