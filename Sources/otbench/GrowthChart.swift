import OTFoundation
import OTVerify

/// Lines over two logarithmic axes, as an SVG file that needs nothing else.
struct GrowthChart {
  /// Points that a line joins.
  struct Series {
    let name: String
    let points: [(x: Double, y: Double)]
  }

  private static let plot = (left: 80.0, right: 700.0, top: 40.0, bottom: 360.0)
  /// Told apart without colours, too: by dashes and by the legend's order.
  private static let styles = [("#1f5fa8", ""), ("#b5541c", "6 3"), ("#2e7d4f", "2 3"), ("#7a4b9c", "8 3 2 3")]

  let title: String
  let names: (x: String, y: String)
  let series: [Series]

  /// The file's text.
  var svg: String {
    let horizontal = LogarithmicAxis(series.flatMap { $0.points.map(\.x) }, within: 1e-3...1e12)
    let vertical = LogarithmicAxis(series.flatMap { $0.points.map(\.y) }, within: 1e-9...1e9)
    let plot = Self.plot
    func x(_ value: Double) -> String { fixed(plot.left + horizontal.place(of: value) * (plot.right - plot.left), 1) }
    func y(_ value: Double) -> String { fixed(plot.bottom - vertical.place(of: value) * (plot.bottom - plot.top), 1) }
    let height = Int(plot.bottom) + 60 + series.count * 20
    var lines = [
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 \(height)\" role=\"img\" "
        + "font-family=\"sans-serif\" font-size=\"13\">",
      "<title>\(escaped(title))</title>", "<rect width=\"720\" height=\"\(height)\" fill=\"#fff\"/>",
      text(plot.left, 22, "start", title),
    ]
    for line in horizontal.lines {
      lines.append(grid("M\(x(line.value)) \(plot.top)V\(plot.bottom)", line.isMinor))
      guard !line.isMinor else { continue }
      lines.append(text(Double(x(line.value)) ?? 0, plot.bottom + 18, "middle", general(line.value)))
    }
    for line in vertical.lines {
      lines.append(grid("M\(plot.left) \(y(line.value))H\(plot.right)", line.isMinor))
      guard !line.isMinor else { continue }
      lines.append(text(plot.left - 8, (Double(y(line.value)) ?? 0) + 4, "end", general(line.value)))
    }
    lines.append(text((plot.left + plot.right) / 2, plot.bottom + 38, "middle", names.x))
    for (index, series) in series.enumerated() {
      let (color, dashes) = Self.styles[index % Self.styles.count]
      let stroke = "fill=\"none\" stroke=\"\(color)\" stroke-width=\"2\" stroke-dasharray=\"\(dashes)\""
      let path = series.points.map { "\(x($0.x)) \(y($0.y))" }.joined(separator: "L")
      lines.append("<path d=\"M\(path)\" \(stroke)/>")
      lines += series.points.map { "<circle cx=\"\(x($0.x))\" cy=\"\(y($0.y))\" r=\"3.5\" fill=\"\(color)\"/>" }
      let height = plot.bottom + 60 + Double(index) * 20
      lines.append("<path d=\"M\(plot.left) \(height)h40\" \(stroke)/>")
      lines.append(text(plot.left + 50, height + 4, "start", series.name))
    }
    return (lines + ["</svg>"]).joined(separator: "\n") + "\n"
  }

  private func grid(_ path: String, _ isMinor: Bool) -> String {
    "<path d=\"\(path)\" stroke=\"\(isMinor ? "#eee" : "#ccc")\"/>"
  }

  private func text(_ x: Double, _ y: Double, _ anchor: String, _ text: String) -> String {
    "<text x=\"\(fixed(x, 1))\" y=\"\(fixed(y, 1))\" text-anchor=\"\(anchor)\">\(escaped(text))</text>"
  }

  private func escaped(_ text: String) -> String {
    text.map { ["&": "&amp;", "<": "&lt;", ">": "&gt;"][$0] ?? String($0) }.joined()
  }
}
