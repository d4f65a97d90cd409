import OTFoundation
import OTGraph

/// What calibration knows of one site's channels.
package struct SiteStatistics: Sendable, Hashable {
  /// Shift z of symmetrization: the mean over the samples of each sample's
  /// (max + min) / 2; nil when the activations were measured as they are.
  package let midpoint: [Float]?
  /// max|x − midpoint| of each channel, not negative.
  package let absoluteMaximum: [Float]

  /// Statistics as measured.
  package init(midpoint: [Float]? = nil, absoluteMaximum: [Float]) {
    self.midpoint = midpoint
    self.absoluteMaximum = absoluteMaximum
  }
}

/// Activation statistics by the name of a linear, as the reference
/// implementations write them, matched to the sites of a graph.
package struct ActivationStatistics: Sendable {
  private let sites: [String: SiteStatistics]

  /// The statistics of a site; nil when the files have none for it.
  package subscript(site: Site) -> SiteStatistics? { sites[site.producer] }

  /// Statistics by the producer of the site.
  package init(sites: [String: SiteStatistics]) { self.sites = sites }

  /// Matches statistics to the sites of `graph`.
  ///
  /// - Parameters:
  ///   - absoluteMaxima: linear → max|x| per input channel; with `midpointSums`,
  ///     max|x − z|.
  ///   - midpointSums: linear → sum over `sampleCount` samples of (max + min) / 2.
  /// - Throws: `Refusal` with rule `statistics-unknown-name`, `statistics-length`,
  ///   `statistics-missing` (a name in one file and not in the other) or
  ///   `statistics-disagree` (linears that share a site).
  package init(
    absoluteMaxima: [String: [Float]], midpointSums: [String: [Float]]?, sampleCount: Int,
    graph: Graph, file: String, midpointFile: String?
  ) throws {
    let maxima = try ActivationStatistics.byLinear(absoluteMaxima, graph, file)
    let sums = try midpointSums.map { try ActivationStatistics.byLinear($0, graph, midpointFile ?? file) }
    var sites: [String: SiteStatistics] = [:]
    for site in graph.sites {
      var found: (linear: String, value: SiteStatistics)?
      for linear in site.consumers {
        guard let maximum = maxima[linear] else { continue }
        var midpoint: [Float]?
        if let sums {
          guard let sum = sums[linear] else {
            throw Refusal(
              "statistics-missing", "has no symmetrization of '\(linear)', which has a scale", file: midpointFile)
          }
          midpoint = sum.map { $0 / Float(sampleCount) }
        }
        let value = SiteStatistics(midpoint: midpoint, absoluteMaximum: maximum)
        if let found, found.value != value {
          throw Refusal(
            "statistics-disagree", "'\(found.linear)' and '\(linear)' share their input but not their statistics",
            file: file)
        }
        found = (linear, value)
      }
      sites[site.producer] = found?.value
    }
    self.sites = sites
  }

  /// The vectors under the graph's own names of linears, lengths checked.
  private static func byLinear(_ vectors: [String: [Float]], _ graph: Graph, _ file: String) throws -> [String: [Float]]
  {
    var result: [String: [Float]] = [:]
    for name in vectors.keys.sorted() {
      guard let node = graph.matches(statisticsName: name), case .linear(let linear)? = graph[node]?.operation else {
        throw Refusal(
          "statistics-unknown-name", "'\(name)' is no linear of this model", file: file,
          remedy: "take the statistics of this model")
      }
      guard let vector = vectors[name], vector.count == linear.inFeatures else {
        throw Refusal(
          "statistics-length",
          "'\(name)' has \(vectors[name]?.count ?? 0) channels, the linear has \(linear.inFeatures)", file: file,
          remedy: "take the statistics of this model")
      }
      result[node] = vector
    }
    return result
  }
}
