import OTPlatform

/// Bars of counts as one path, heights by the logarithm, so that the few
/// outliers that matter can be seen beside the many values that do not.
struct HistogramChart {
  /// Heights are whole numbers up to this.
  private static let height = 100
  /// The most bars that are drawn; more bins are merged.
  private static let mostBars = 64

  let title: String
  let description: String
  let counts: [Int]

  /// An SVG that takes the size that its style gives it; nil without counts.
  var svg: Markup? {
    guard let largest = bars.max(), largest > 0 else { return nil }
    var path = "M0 \(HistogramChart.height)"
    var before = 0
    for bar in bars {
      let height = Int((log1p(Double(bar)) / log1p(Double(largest)) * Double(HistogramChart.height)).rounded())
      if height != before { path += "v\(before - height)" }
      path += "h1"
      before = height
    }
    path += "v\(before)z"
    return .element(
      "svg",
      [
        "class": "histogram", "viewBox": "0 0 \(bars.count) \(HistogramChart.height)",
        "preserveAspectRatio": "none", "role": "img",
      ],
      .element("title", [:], Markup(title)), .element("desc", [:], Markup(description)),
      .element("path", ["d": path]))
  }

  private var bars: [Int] {
    let width = max(1, (counts.count + HistogramChart.mostBars - 1) / HistogramChart.mostBars)
    return stride(from: 0, to: counts.count, by: width).map { start in
      counts[start..<min(start + width, counts.count)].reduce(0, +)
    }
  }
}

extension ValueHistogram {
  /// The counts of the bins from the first to the last that is not empty,
  /// widened to the same distance from 0, and that distance.
  var trimmed: (counts: [Int], halfRange: Double) {
    let half = ValueHistogram.binCount / 2
    guard let first = counts.firstIndex(where: { $0 > 0 }), let last = counts.lastIndex(where: { $0 > 0 })
    else { return ([], 0) }
    let reach = max(half - first, last - half + 1)
    return (Array(counts[half - reach..<half + reach]), Double(halfRange) * Double(reach) / Double(half))
  }
}
