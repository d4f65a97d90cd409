import OTFoundation
import OTGraph
import OTModel
import OTObservation

/// All that a method may look at when it decides about a site.
package struct SiteContext: Sendable {
  /// The site.
  package let site: Site
  /// The graph with all that has been decided before.
  package let graph: Graph
  /// The user's request.
  package let request: SiteRequest
  /// The observations of the site's value, as it is in `graph`.
  package let observed: SiteObservations
  /// The weights that read the site, read when they are asked for.
  package let weights: SiteWeights
  /// Tries plans on kept rows.
  package let trial: SiteTrial

  private let parameters: ParameterReader

  /// The context of a site of `graph`.
  package init(
    _ site: Site, in graph: Graph, request: SiteRequest, observed: SiteObservations, parameters: ParameterReader,
    threadCount: Int
  ) {
    self.site = site
    self.graph = graph
    self.request = request
    self.observed = observed
    self.parameters = parameters
    weights = SiteWeights(of: site, in: graph, parameters)
    trial = SiteTrial(of: site, in: graph, observed, parameters, threadCount: threadCount)
  }

  /// For each channel, the first of those that must have its shift and scale because they share a
  /// value channel; nil where every channel is free.
  package var sharedChannels: [Int]? { graph.sharedChannels(of: site) }

  /// The node that gives the site's value; those that migration put on the edge are looked through.
  private var origin: Node? { graph[graph.nodeBeforeEdge(site.producer)] }

  /// True when a LayerNorm gives the site's value.
  package var isFedByLayerNorm: Bool {
    guard case .layerNorm? = origin?.operation else { return false }
    return true
  }

  /// γ of the norm that gives the site's value, as methods before have left it; nil where none does.
  ///
  /// - Throws: as `ParameterReader`.
  package func normGain() throws -> [Float]? {
    guard site.isNormFed, let origin,
      let use = graph.parameterUses(of: origin.name).first(where: { $0.role == .gamma }),
      use.shape.elementCount == site.size
    else { return nil }
    return try parameters.vector(use, rows: 0..<site.size)
  }

  /// The refusal of a site about which too little is known.
  package var missingStatistics: Refusal {
    let isRotated = graph.rotation(ofValue: site.producer) != nil
    return Refusal(
      "statistics-missing",
      "there are no statistics for '\(site.consumers.first ?? site.producer)'"
        + (isRotated ? ", whose channels another method has rotated" : ""),
      remedy: isRotated ? "name the method that rotates last" : "gather statistics of every linear, or exclude it")
  }
}

/// The weights of the linears that read a site, as the graph has transformed them so far.
package struct SiteWeights: Sendable {
  private let uses: [ParameterUse]
  private let parameters: ParameterReader

  init(of site: Site, in graph: Graph, _ parameters: ParameterReader) {
    uses = site.consumers.flatMap(graph.parameterUses(of:)).filter { $0.role == .weight }
    self.parameters = parameters
  }

  /// Calls `body` with row after row of all weights, each as long as the site is wide, in the order
  /// of the linears.
  ///
  /// - Throws: as `ParameterReader`.
  package func forEachRow(_ body: (UnsafeBufferPointer<Float>) throws -> Void) throws {
    for use in uses {
      let rows = try parameters.rows(of: use)
      let width = max(rows.rowElementCount, 1)
      let step = max(1, (1 << 18) / width)
      for first in stride(from: 0, to: use.shape.rowCount, by: step) {
        let block = first..<min(first + step, use.shape.rowCount)
        try rows.values(rows: block).withUnsafeBufferPointer { values in
          for start in stride(from: 0, to: values.count, by: width) {
            try body(UnsafeBufferPointer(rebasing: values[start..<start + width]))
          }
        }
        rows.view.release(block)
      }
    }
  }

  /// Σw² of each column over all weights, in float64.
  ///
  /// - Throws: as `ParameterReader`.
  package func columnSquares() throws -> [Double] {
    var squares: [Double] = []
    try forEachRow { row in
      if squares.isEmpty { squares = [Double](repeating: 0, count: row.count) }
      for column in row.indices { squares[column] += Double(row[column]) * Double(row[column]) }
    }
    return squares
  }

  /// max|W| of each column over all weights.
  ///
  /// - Throws: as `ParameterReader`.
  package func columnMaxima() throws -> [Float] {
    var maxima: [Float] = []
    try forEachRow { row in
      if maxima.isEmpty { maxima = [Float](repeating: 0, count: row.count) }
      for column in row.indices { maxima[column] = max(maxima[column], abs(row[column])) }
    }
    return maxima
  }
}
