import OTFoundation

/// The tensors of a conversion, shared among so many parts: each has neighbours, and about as many bytes to read.
struct ConversionParts {
  /// The part of each tensor, from 0, in the order of writing.
  let parts: [Int]

  /// A weight and its bias, which takes up what shifts leave of the weight, are not parted; neither are two names of
  /// one tensor.
  ///
  /// - Parameter sites: the linears of each site, where weights are rounded site by site. They are not parted either, and
  ///   no site is in a part before that of an earlier one.
  init(_ tensors: [PlannedTensor], count: Int, sites: [[String]] = []) {
    let firsts = Dictionary(
      sites.flatMap { site in site.map { ($0, site[0]) } }, uniquingKeysWith: { first, _ in first })
    var leaders = Array(tensors.indices)
    var (byName, byNode): ([String: Int], [String: Int]) = ([:], [:])
    for (index, tensor) in tensors.enumerated() {
      if case .alias(let target) = tensor.treatment {
        leaders[index] = byName[target] ?? index
      } else if let node = tensor.use.map({ firsts[$0.node] ?? $0.node }) {
        leaders[index] = byNode[node] ?? index
        byNode[node] = leaders[index]
      }
      byName[tensor.outputName] = leaders[index]
    }
    // What is made of nothing takes time, too.
    var costs = [Int](repeating: 0, count: tensors.count)
    for (index, leader) in leaders.enumerated() { costs[leader] += tensors[index].readByteCount + 1 }
    let total = Double(costs.reduce(0, +))
    var done = 0
    var parts = [Int](repeating: 0, count: tensors.count)
    for (index, leader) in leaders.enumerated() {
      guard leader == index else { continue }
      let middle = Double(done) + Double(costs[index]) / 2
      parts[index] = min(count - 1, Int(middle / total * Double(count)))
      done += costs[index]
    }
    var least = 0
    for site in sites {
      guard let first = site.first, let leader = byNode[firsts[first] ?? first] else { continue }
      parts[leader] = max(parts[leader], least)
      least = parts[leader]
    }
    self.parts = leaders.map { parts[$0] }
  }
}
