import OTGraph

extension Graph {
  /// Sites by the quantization of their activations, and the transforms that stay on the edge: a line each, with its
  /// count.
  var siteLines: [String] {
    var counts: [String: Int] = [:]
    for site in sites {
      switch activations[site.producer] ?? .float {
      case .float: counts["float", default: 0] += 1
      case .dynamic(let bits, let groupSize):
        let group = groupSize.map { "\($0) channels of a token" } ?? "token"
        counts["int\(bits), a scale per \(group)", default: 0] += 1
      case .asymmetric(let bits, let groupSize):
        let group = groupSize.map { "\($0) channels of a token" } ?? "token"
        counts["int\(bits), a scale and a code of 0 per \(group)", default: 0] += 1
      case .static(let bits, _): counts["int\(bits), static scales in the weights", default: 0] += 1
      }
    }
    let affines = nodes.filter { if case .affine = $0.operation { true } else { false } }.count
    var lines = counts.keys.sorted().map { "\(counts[$0] ?? 0) sites: \($0)" }
    if affines > 0 { lines.append("\(affines) sites keep an explicit shift and scale on the edge to the linears") }
    return lines
  }
}
