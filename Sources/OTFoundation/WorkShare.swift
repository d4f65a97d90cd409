/// The share of a work that one of several machines does.
package struct WorkShare: Sendable, Hashable {
  /// The part, from 1.
  package let number: Int
  /// How many parts there are.
  package let count: Int

  /// A share; nil unless the part is one of them.
  package init?(_ number: Int, of count: Int) {
    guard count >= 1, (1...count).contains(number) else { return nil }
    (self.number, self.count) = (number, count)
  }

  /// True for the first part, and for the last, which do what is done once.
  package var isFirst: Bool { number == 1 }
  /// True for the last part.
  package var isLast: Bool { number == count }

  /// The share of so many things in order: neighbours.
  package func range(of total: Int) -> Range<Int> { (number - 1) * total / count..<number * total / count }

  /// The share of things that take so much each: neighbours, of about as much in each part.
  package func range(of costs: [Int]) -> Range<Int> {
    let total = Double(costs.reduce(0, +))
    var done = 0.0
    let parts = costs.map { cost -> Int in
      defer { done += Double(cost) }
      return total > 0 ? min(count, Int((done + Double(cost) / 2) / total * Double(count)) + 1) : 1
    }
    let first = parts.firstIndex { $0 >= number } ?? costs.count
    return first..<max(first, parts.firstIndex { $0 > number } ?? costs.count)
  }

  /// Checks that all parts of a work are there, each once.
  ///
  /// - Parameters:
  ///   - shares: the parts.
  ///   - file: one of their files.
  /// - Throws: `Refusal` with rule `merge-part-missing` or `merge-part`.
  package static func checkAll(_ shares: [WorkShare], file: String?) throws {
    guard let count = shares.first?.count else {
      throw Refusal("merge-part-missing", "there are no parts to put together", file: file)
    }
    for number in 1...count {
      let found = shares.count { $0.number == number }
      guard found != 1 else { continue }
      throw Refusal(
        found > 1 ? "merge-part" : "merge-part-missing",
        "part \(number) of \(count) is \(found > 1 ? "there twice" : "not there")", file: file,
        remedy: found > 1 ? "give each part once" : "make it with --part \(number) --of \(count)")
    }
  }
}
