import OTFoundation

/// The most that a file may take: bits of the blocks' linears, or bytes.
package enum BitBudget: Sendable, Hashable {
  /// Bits per weight of the blocks' linears on disk, scales and zero points included.
  case bitsPerWeight(Double)
  /// Bytes of the whole file.
  case byteCount(Int)

  /// `5.0bpw`, or bytes with an optional unit of powers of 1000: `90MB`, `90M`, `94371840`.
  package init?(_ text: String) {
    let text = text.lowercased()
    if text.hasSuffix("bpw") {
      guard let bits = Double(text.dropLast(3)), bits > 0, bits.isFinite else { return nil }
      self = .bitsPerWeight(bits)
      return
    }
    let number = text.hasSuffix("b") ? text.dropLast() : text[...]
    let units: [Character: Double] = ["k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12]
    let unit = number.last.flatMap { units[$0] }
    guard let value = Double(unit == nil ? number : number.dropLast()), value > 0,
      let byteCount = Int(exactly: (value * (unit ?? 1)).rounded(.down)), byteCount > 0
    else { return nil }
    self = .byteCount(byteCount)
  }

  /// As it was given, in one form.
  package var text: String {
    switch self {
    case .bitsPerWeight(let bits): "\(bits)bpw"
    case .byteCount(let count): "\(count)B"
    }
  }
}

/// The choice of the bits of several parts under a budget: the least total cost for at most so many bytes.
package struct BitAllocation {
  /// Bits that a part may have.
  package struct Option: Sendable, Hashable {
    /// Bits of its weights.
    package let bits: Int
    /// Bytes that it takes then.
    package let byteCount: Double
    /// What it costs in accuracy then.
    package let cost: Double

    /// An option.
    package init(bits: Int, byteCount: Double, cost: Double) {
      (self.bits, self.byteCount, self.cost) = (bits, byteCount, cost)
    }
  }

  /// One of its options for each part, by index; nil where even the smallest take more than `byteCount`.
  ///
  /// Every part begins with its smallest option. Then, again and again, that step to a larger one is taken which
  /// lessens the cost most for each byte it adds, of those that still fit. Steps lead from corner to corner of the
  /// lower convex hull of a part's options, so that the result is the best there is but for the last steps.
  /// - Precondition: every part has an option.
  package static func choice(among parts: [[Option]], byteCount: Double) -> [Int]? {
    let hulls = parts.map(hull)
    var places = [Int](repeating: 0, count: parts.count)
    var room = byteCount - zip(parts, hulls).reduce(0) { $0 + $1.0[$1.1[0]].byteCount }
    guard room >= 0 else { return nil }
    func gain(_ part: Int) -> (byteCount: Double, perByte: Double)? {
      guard places[part] + 1 < hulls[part].count else { return nil }
      let (from, to) = (parts[part][hulls[part][places[part]]], parts[part][hulls[part][places[part] + 1]])
      let added = to.byteCount - from.byteCount
      return (added, (from.cost - to.cost) / added)
    }
    while true {
      var best: (part: Int, byteCount: Double, perByte: Double)?
      for part in parts.indices {
        guard let gain = gain(part), gain.byteCount <= room, gain.perByte > best?.perByte ?? 0 else { continue }
        best = (part, gain.byteCount, gain.perByte)
      }
      guard let best else { break }
      places[best.part] += 1
      room -= best.byteCount
    }
    return zip(hulls, places).map { $0[$1] }
  }

  /// The corners of the lower convex hull from the smallest option on, in rising bytes and falling cost.
  private static func hull(_ options: [Option]) -> [Int] {
    var corners: [Int] = []
    for index in options.indices.sorted(by: { isBefore(options[$0], options[$1]) }) {
      if let last = corners.last, options[index].cost >= options[last].cost { continue }
      func slope(_ a: Int, _ b: Int) -> Double {
        (options[b].cost - options[a].cost) / (options[b].byteCount - options[a].byteCount)
      }
      while corners.count > 1,
        slope(corners[corners.count - 2], corners[corners.count - 1])
          >= slope(corners[corners.count - 1], index)
      { corners.removeLast() }
      corners.append(index)
    }
    return corners
  }

  private static func isBefore(_ a: Option, _ b: Option) -> Bool {
    a.byteCount != b.byteCount ? a.byteCount < b.byteCount : a.cost < b.cost
  }
}
