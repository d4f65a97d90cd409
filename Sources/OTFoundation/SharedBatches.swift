/// Things in order, in batches of neighbours that are done together, and the batches of one share.
///
/// Where the batches end depends on the things alone, so that all shares together do what one machine does.
package struct SharedBatches: Sendable {
  /// The share's batches.
  package let own: ArraySlice<Range<Int>>
  /// All things of the share.
  package let items: Range<Int>

  /// - Parameters:
  ///   - costs: those of each thing.
  ///   - limit: the most that a batch costs, unless one thing alone costs more.
  ///   - share: nil: all.
  package init(costs: [Int], limit: Int, _ share: WorkShare?) {
    var batches: [(range: Range<Int>, cost: Int)] = []
    for (index, cost) in costs.enumerated() {
      if let last = batches.last, last.cost + cost <= limit {
        batches[batches.count - 1] = (last.range.lowerBound..<index + 1, last.cost + cost)
      } else {
        batches.append((index..<index + 1, cost))
      }
    }
    own = batches.map(\.range)[share?.range(of: batches.map(\.cost)) ?? batches.indices]
    items = (own.first?.lowerBound ?? 0)..<(own.last?.upperBound ?? 0)
  }
}
