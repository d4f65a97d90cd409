import OTFoundation
import OTPlatform

/// The relative error of every linear over the depth of the model, a line for
/// each kind of linear; the errors on a logarithmic axis.
struct ErrorChart {
  /// Linears that have the same place in each block.
  struct Series {
    let label: String
    /// Position over depth and relative error.
    let points: [(position: Int, error: Double, name: String)]
  }

  private static let size = (width: 960.0, height: 340.0)
  private static let plot = (left: 58.0, right: 944.0, top: 14.0, bottom: 296.0)
  /// Colours that the style sheet has for series; the next series have them again, with broken lines and hollow points.
  private static let colourCount = 7

  let series: [Series]
  private let limit: Double
  private let positions: [String]
  private let axis: LogarithmicAxis

  /// A chart of `layers`; nil where there are no linears.
  init?(_ layers: [LayerFinding], limit: Double) {
    let linears = layers.filter { $0.kind == .linear }
    guard !linears.isEmpty else { return nil }
    let blocks = Set(linears.compactMap(\.place.block)).sorted()
    let order = Dictionary(uniqueKeysWithValues: blocks.enumerated().map { ($1, $0) })
    var labels: [String] = []
    var points: [String: [(position: Int, error: Double, name: String)]] = [:]
    for (index, layer) in linears.enumerated() {
      let place = layer.place
      // Outside the blocks: before them at −1, after them behind the last.
      let isBefore = place.block == nil && linears[..<index].allSatisfy { $0.place.block == nil }
      let position = place.block.flatMap { order[$0] } ?? (isBefore && !blocks.isEmpty ? -1 : blocks.count)
      if points[place.label] == nil { labels.append(place.label) }
      points[place.label, default: []].append((position, layer.error.relativeError, layer.name))
    }
    series = labels.map { Series(label: $0, points: points[$0] ?? []) }
    self.limit = limit
    let hasEntry = points.values.contains { $0.contains { $0.position < 0 } }
    let hasExit = points.values.contains { $0.contains { $0.position == blocks.count } }
    positions = (hasEntry ? ["in"] : []) + blocks.map(String.init) + (hasExit ? ["out"] : [])
    firstPosition = hasEntry ? -1 : 0
    axis = LogarithmicAxis(linears.map(\.error.relativeError) + [limit])
  }

  private let firstPosition: Int

  private func x(_ position: Int) -> Double {
    let plot = ErrorChart.plot
    let step = (plot.right - plot.left) / Double(positions.count)
    return plot.left + (Double(position - firstPosition) + 0.5) * step
  }

  private func y(_ error: Double) -> Double {
    let plot = ErrorChart.plot
    return plot.bottom - axis.place(of: error) * (plot.bottom - plot.top)
  }

  private func number(_ value: Double) -> String { OTFoundation.fixed(value, 1) }

  /// The class of a series: its colour, and whether it is one that has been used, or used twice.
  static func style(of index: Int) -> String {
    "s\(index % colourCount)" + ["", " again", " third"][min(index / colourCount, 2)]
  }

  /// The chart, and the legend below it.
  var figure: Markup {
    let worst = series.flatMap(\.points).max { $0.error < $1.error }
    let description =
      "Relative error of the output of \(series.reduce(0) { $0 + $1.points.count }) linears over \(positions.count) "
      + "places in the model. The largest is \(ReportNumber.percent(worst?.error ?? 0)) at \(worst?.name ?? "–"); "
      + "\(ReportNumber.percent(limit)) is allowed."
    let svg = Markup.element(
      "svg",
      [
        "class": "depth", "viewBox": "0 0 \(Int(ErrorChart.size.width)) \(Int(ErrorChart.size.height))", "role": "img",
      ],
      [.element("title", [:], "Error of linears over depth"), .element("desc", [:], Markup(description))]
        + axes + series.enumerated().map { drawn($1, style: ErrorChart.style(of: $0)) } + [limitLine])
    let legend = Markup.element(
      "ul", ["class": "legend"],
      series.enumerated().map { index, series in
        .element(
          "li", [:], .element("span", ["class": "key \(ErrorChart.style(of: index))"]), Markup(series.label))
      })
    return .element("figure", [:], .element("div", ["class": "scroll", "tabindex": "0"], svg), legend)
  }

  private var axes: [Markup] {
    let plot = ErrorChart.plot
    var result: [Markup] = []
    for line in axis.lines {
      let height = number(y(line.value))
      result.append(
        .element("path", ["class": line.isMinor ? "grid minor" : "grid", "d": "M\(plot.left) \(height)H\(plot.right)"]))
      guard !line.isMinor else { continue }
      let percent = line.value * 100
      let places = max(0, Int(-log10(percent).rounded()))
      result.append(
        .element(
          "text", ["x": "\(plot.left - 8)", "y": height, "dy": "0.32em", "text-anchor": "end"],
          Markup("\(ReportNumber.fixed(percent, places)) %")))
    }
    let step = max(1, (positions.count + 23) / 24)
    for (index, label) in positions.enumerated()
    where index % step == 0 || index == positions.count - 1 && label == "out" {
      result.append(
        .element(
          "text", ["x": number(x(index + firstPosition)), "y": "\(plot.bottom + 18)", "text-anchor": "middle"],
          Markup(label)))
    }
    result.append(
      .element(
        "text",
        [
          "class": "axis", "x": number((plot.left + plot.right) / 2), "y": "\(plot.bottom + 38)",
          "text-anchor": "middle",
        ],
        "block"))
    return result
  }

  private var limitLine: Markup {
    let plot = ErrorChart.plot
    let height = y(limit)
    return .element("path", ["class": "limit", "d": "M\(plot.left) \(number(height))H\(plot.right)"])
      + .element(
        "text",
        [
          "class": "limit-label", "x": "\(plot.right)", "y": number(height < 30 ? height + 16 : height - 6),
          "text-anchor": "end",
        ], "allowed \(ReportNumber.percent(limit))")
  }

  private func drawn(_ series: Series, style: String) -> Markup {
    var path = ""
    var dots: [Markup] = []
    var last: Int?
    for point in series.points {
      let place = "\(number(x(point.position))) \(number(y(point.error)))"
      path += (last.map { point.position == $0 + 1 } ?? false ? "L" : "M") + place
      last = point.position
      dots.append(
        .element(
          "circle", ["cx": number(x(point.position)), "cy": number(y(point.error)), "r": "3.2"],
          .element("title", [:], "\(point.name): \(ReportNumber.percent(point.error))")))
    }
    return .element("g", ["class": style], [.element("path", ["class": "line", "d": path])] + dots)
  }
}
