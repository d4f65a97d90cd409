import OTObservation

/// The least and the greatest value of each channel, as areas over the
/// channels.
package struct RangeChart {
  /// An area.
  package struct Area {
    /// Its class in the style sheet.
    package let style: String
    /// Least and greatest value of each channel.
    package let ranges: ChannelRanges

    /// An area.
    package init(style: String, ranges: ChannelRanges) { (self.style, self.ranges) = (style, ranges) }
  }

  /// Columns that are drawn at most: a column shows the widest range of its channels.
  package static let mostColumns = 256
  private static let height = 200

  let title: String
  let description: String
  let areas: [Area]
  let lines: [Double]

  /// A chart.
  ///
  /// - Parameter lines: values at which a line is drawn across.
  package init(title: String, description: String, areas: [Area], lines: [Double] = []) {
    (self.title, self.description, self.areas, self.lines) = (title, description, areas, lines)
  }

  /// The distance from 0 that the chart reaches up and down.
  var reach: Double {
    let largest = areas.reduce(0) { max($0, Double($1.ranges.largestMagnitude)) }
    let limit = lines.reduce(0) { max($0, abs($1)) }
    let reach = max(largest, limit) * 1.04
    return reach > 0 && reach.isFinite ? reach : 1
  }

  /// The chart beside its scale, with a caption below.
  package func figure(caption: String) -> Markup {
    let reach = ReportNumber.short(reach)
    return .element(
      "figure", [:],
      .element(
        "div", ["class": "plot"],
        .element(
          "div", ["class": "scale"], .element("span", [:], Markup(reach)), .element("span", [:], "0"),
          .element("span", [:], Markup("−\(reach)"))), svg),
      .element("figcaption", [:], Markup(caption)))
  }

  /// An SVG that takes the size that its style gives it.
  var svg: Markup {
    let columnCount = areas.map { RangeChart.columns($0.ranges).count }.max() ?? 1
    var children: [Markup] = [
      .element("title", [:], Markup(title)), .element("desc", [:], Markup(description)),
      line(at: 0, "zero", width: columnCount),
    ]
    children += areas.map { .element("path", ["class": $0.style, "d": path($0.ranges)]) }
    children += lines.map { line(at: $0, "limit", width: columnCount) }
    return .element(
      "svg",
      [
        "class": "ranges", "viewBox": "0 0 \(max(columnCount, 1)) \(RangeChart.height)",
        "preserveAspectRatio": "none", "role": "img",
      ], children)
  }

  private func line(at value: Double, _ style: String, width: Int) -> Markup {
    .element("path", ["class": style, "d": "M0 \(y(value))h\(width)"])
  }

  private func y(_ value: Double) -> Int {
    let bounded = min(max(value / reach, -1), 1)
    return Int((Double(RangeChart.height) / 2 * (1 - bounded)).rounded())
  }

  /// Along the maxima, and back along the minima.
  private func path(_ ranges: ChannelRanges) -> String {
    let columns = RangeChart.columns(ranges)
    guard let first = columns.first, let last = columns.last else { return "" }
    var at = y(Double(first.maximum))
    var path = "M0 \(at)"
    func step(to value: Float, _ width: Int) {
      let next = y(Double(value))
      if next != at { path += "v\(next - at)" }
      path += "h\(width)"
      at = next
    }
    for column in columns { step(to: column.maximum, 1) }
    path += "v\(y(Double(last.minimum)) - at)"
    at = y(Double(last.minimum))
    for column in columns.reversed() { step(to: column.minimum, -1) }
    return path + "z"
  }

  /// At most `mostColumns` columns of as many channels each, but for the last;
  /// channels of which no number has been seen count as 0.
  package static func columns(_ ranges: ChannelRanges) -> [(minimum: Float, maximum: Float)] {
    let width = max(1, (ranges.minima.count + mostColumns - 1) / mostColumns)
    return stride(from: 0, to: ranges.minima.count, by: width).map { start in
      let channels = start..<min(start + width, ranges.minima.count)
      let minimum = ranges.minima[channels].min() ?? 0
      let maximum = ranges.maxima[channels].max() ?? 0
      return minimum <= maximum ? (minimum, maximum) : (0, 0)
    }
  }
}
