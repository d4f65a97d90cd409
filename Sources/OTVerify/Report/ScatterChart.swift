import OTFoundation
import OTPlatform

/// Points over a linear and a logarithmic axis, those of a series joined by a line, and marks beside them.
package struct ScatterChart {
  /// A point.
  package struct Point {
    let x: Double
    let y: Double
    let label: String

    /// A point; `label` says what it is.
    package init(x: Double, y: Double, label: String) { (self.x, self.y, self.label) = (x, y, label) }
  }

  /// Points that belong together.
  package struct Series {
    /// The name in the legend.
    let name: String
    /// Its points.
    package let points: [Point]

    /// A series.
    package init(name: String, points: [Point]) { (self.name, self.points) = (name, points) }
  }

  private static let size = (width: 960.0, height: 420.0)
  private static let plot = (left: 70.0, right: 930.0, top: 18.0, bottom: 366.0)

  private let series: [Series]
  private let marks: [Point]
  private let title: String
  private let names: (x: String, y: String)
  private let horizontal: (least: Double, step: Double, count: Int)
  private let vertical: LogarithmicAxis

  /// A chart; nil where there is no point.
  ///
  /// - Parameters:
  ///   - marks: points that belong to no series, with their labels beside them.
  ///   - names: what the axes measure.
  package init?(title: String, names: (x: String, y: String), series: [Series], marks: [Point]) {
    let points = (series.flatMap(\.points) + marks).filter { $0.x.isFinite }
    guard let first = points.map(\.x).min(), let last = points.map(\.x).max() else { return nil }
    (self.title, self.names) = (title, names)
    self.series = series.map { series in
      Series(name: series.name, points: series.points.filter { $0.x.isFinite }.sorted { $0.x < $1.x })
    }
    self.marks = marks.filter { $0.x.isFinite }
    vertical = LogarithmicAxis(points.map(\.y))
    // A tenth of the span, or of the value, is left free on both sides; steps are 1, 2 or 5 times a power of ten.
    let margin = max((last - first) / 10, abs(last) / 20, 1e-3)
    let span = last - first + 2 * margin
    let power = pow(10, log10(span / 6).rounded(.down))
    let step = [1, 2, 5, 10].map { $0 * power }.first { span / $0 <= 8 } ?? 10 * power
    let least = ((first - margin) / step).rounded(.down) * step
    horizontal = (least, step, max(1, Int(((last + margin - least) / step).rounded(.up))))
  }

  private func x(_ value: Double) -> Double {
    let plot = ScatterChart.plot
    return plot.left + (value - horizontal.least) / (horizontal.step * Double(horizontal.count))
      * (plot.right - plot.left)
  }

  private func y(_ value: Double) -> Double {
    let plot = ScatterChart.plot
    return plot.bottom - vertical.place(of: value) * (plot.bottom - plot.top)
  }

  private func number(_ value: Double) -> String { fixed(value, 1) }

  /// The chart, and the legend below it.
  package var figure: Markup {
    let description =
      "\(names.y) over \(names.x): "
      + (series.map { "\($0.name), \($0.points.map(\.label).joined(separator: "; "))" } + marks.map(\.label))
      .joined(separator: ". ") + "."
    let svg = Markup.element(
      "svg",
      [
        "class": "depth", "viewBox": "0 0 \(Int(ScatterChart.size.width)) \(Int(ScatterChart.size.height))",
        "role": "img",
      ],
      [.element("title", [:], Markup(title)), .element("desc", [:], Markup(description))]
        + axes + series.enumerated().map { drawn($1, style: ErrorChart.style(of: $0)) } + marks.map(mark))
    var legend = series.enumerated().map { index, series in
      Markup.element(
        "li", [:], .element("span", ["class": "key \(ErrorChart.style(of: index))"]), Markup(series.name))
    }
    if !marks.isEmpty { legend.append(.element("li", [:], .element("span", ["class": "key mark"]), "other programs")) }
    return .element(
      "figure", [:], .element("div", ["class": "scroll", "tabindex": "0"], svg),
      .element("ul", ["class": "legend"], legend))
  }

  private var axes: [Markup] {
    let plot = ScatterChart.plot
    var result: [Markup] = []
    for line in vertical.lines {
      let height = number(y(line.value))
      result.append(
        .element("path", ["class": line.isMinor ? "grid minor" : "grid", "d": "M\(plot.left) \(height)H\(plot.right)"]))
      guard !line.isMinor else { continue }
      result.append(text(plot.left - 8, y(line.value), "end", general(line.value), shift: "0.32em"))
    }
    for index in 0...horizontal.count {
      let value = horizontal.least + Double(index) * horizontal.step
      result.append(
        .element("path", ["class": "grid minor", "d": "M\(number(x(value))) \(plot.top)V\(plot.bottom)"]))
      result.append(text(x(value), plot.bottom + 18, "middle", general(value)))
    }
    result.append(text((plot.left + plot.right) / 2, plot.bottom + 40, "middle", names.x))
    result.append(text(plot.left + 6, plot.top + 10, "start", names.y))
    return result
  }

  private func text(_ x: Double, _ y: Double, _ anchor: String, _ text: String, shift: String = "0") -> Markup {
    .element("text", ["x": number(x), "y": number(y), "dy": shift, "text-anchor": anchor], Markup(text))
  }

  private func drawn(_ series: Series, style: String) -> Markup {
    let path = series.points.enumerated().map { index, point in
      "\(index == 0 ? "M" : "L")\(number(x(point.x))) \(number(y(point.y)))"
    }.joined()
    let dots = series.points.map { point in
      Markup.element(
        "circle", ["cx": number(x(point.x)), "cy": number(y(point.y)), "r": "4"],
        .element("title", [:], Markup(point.label)))
    }
    return .element("g", ["class": style], [.element("path", ["class": "line", "d": path])] + dots)
  }

  private func mark(_ point: Point) -> Markup {
    let (x, y) = (x(point.x), y(point.y))
    // Beside the right end there is no room.
    let isLeft = x > ScatterChart.plot.right - 160
    return .element(
      "g", ["class": "mark"],
      .element(
        "path", ["d": "M\(number(x)) \(number(y - 6))l6 6l-6 6l-6 -6z"], .element("title", [:], Markup(point.label))),
      text(x + (isLeft ? -10 : 10), y, isLeft ? "end" : "start", point.label, shift: "0.32em"))
  }
}
