import OTFoundation
import OTGraph

/// Another tool's measurement of a site, as its files give it.
package struct ForeignScales: Sendable, Hashable {
  /// The shift of the activations before they were measured: the mean over the
  /// samples of each sample's (max + min) / 2; nil when they were measured as they are.
  package let midpoint: [Float]?
  /// max|x − midpoint| of each channel, not negative.
  package let absoluteMaximum: [Float]

  /// Scales as given.
  package init(midpoint: [Float]? = nil, absoluteMaximum: [Float]) {
    self.midpoint = midpoint
    self.absoluteMaximum = absoluteMaximum
  }
}

/// Files of activation statistics, as the reference implementations of SmoothQuant and OutlierTune
/// write them.
package struct ForeignStatistics: Sendable {
  /// Path of max|x| per channel; with symmetrizations, of max|x − z|.
  package var scales: String
  /// Path of the summed midpoints.
  package var symmetrizations: String?
  /// Number of samples that the symmetrizations are sums over.
  package var sampleCount = 1

  /// Files as named.
  package init(scales: String, symmetrizations: String? = nil, sampleCount: Int = 1) {
    self.scales = scales
    self.symmetrizations = symmetrizations
    self.sampleCount = sampleCount
  }

  /// Reads the files and matches their linears to the sites of `graph`.
  ///
  /// - Throws: `Refusal` with rule `statistics-unknown-name`, `statistics-length`,
  ///   `statistics-missing` (a name in one file and not in the other),
  ///   `statistics-disagree` (linears that share a site), or as `vectors` throws.
  package func observations(of graph: Graph) throws -> ModelObservations {
    let maxima = try byLinear(
      ForeignStatistics.vectors(path: scales, kind: .absoluteMaximum), graph, file: scales)
    let sums = try symmetrizations.map {
      try byLinear(ForeignStatistics.vectors(path: $0, kind: .midpointSum), graph, file: $0)
    }
    var sites: [String: SiteObservations] = [:]
    for site in graph.sites {
      var found: (linear: String, value: ForeignScales)?
      for linear in site.consumers {
        guard let maximum = maxima[linear] else { continue }
        var midpoint: [Float]?
        if let sums {
          guard let sum = sums[linear] else {
            throw Refusal(
              "statistics-missing", "has no symmetrization of '\(linear)', which has a scale", file: symmetrizations)
          }
          midpoint = sum.map { $0 / Float(sampleCount) }
        }
        let value = ForeignScales(midpoint: midpoint, absoluteMaximum: maximum)
        if let found, found.value != value {
          throw Refusal(
            "statistics-disagree", "'\(found.linear)' and '\(linear)' share their input but not their statistics",
            file: scales)
        }
        found = (linear, value)
      }
      sites[site.producer] = found.map { SiteObservations(foreignScales: $0.value) }
    }
    return ModelObservations(family: graph.family, sources: [], runs: [], sites: sites)
  }

  /// The vectors under the graph's own names of linears, lengths checked.
  private func byLinear(_ vectors: [String: [Float]], _ graph: Graph, file: String) throws -> [String: [Float]] {
    var result: [String: [Float]] = [:]
    for name in vectors.keys.sorted() {
      guard let node = graph.matches(statisticsName: name), case .linear(let linear)? = graph[node]?.operation else {
        throw Refusal(
          "statistics-unknown-name", "'\(name)' is not a linear of this model", file: file,
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
