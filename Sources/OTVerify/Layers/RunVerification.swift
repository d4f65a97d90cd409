import OTFoundation
import OTGraph
import OTJSON
import OTObservation
import OTRuntime

/// The result of running a packed model and its source on the same tokens.
package struct RunVerification: Sendable {
  /// A finding for every linear, every norm and every other node that gives a
  /// site, in execution order.
  package let layers: [LayerFinding]
  /// A finding for every site, in execution order.
  package private(set) var sites: [SiteFinding]
  /// The distance of the outputs; nil unless asked for.
  package let model: ModelFinding?
  /// Tokens that were run.
  package let tokenCount: Int
  /// Sequences that were run.
  package let sequenceCount: Int
  /// The model's scheme, by which tolerances are chosen.
  package let scheme: ModelScheme
  /// The limits.
  package let tolerance: Tolerance

  /// Puts the figures together.
  package init(
    layers: [LayerFinding], sites: [SiteFinding], model: ModelFinding?, tokenCount: Int, sequenceCount: Int,
    scheme: ModelScheme, tolerance: Tolerance
  ) {
    (self.layers, self.sites, self.model) = (layers, sites, model)
    (self.tokenCount, self.sequenceCount) = (tokenCount, sequenceCount)
    (self.scheme, self.tolerance) = (scheme, tolerance)
  }

  /// Layers with faults.
  package var offenders: [LayerFinding] { layers.filter { !$0.faults.isEmpty } }
  /// True when nothing has a fault.
  package var hasPassed: Bool { offenders.isEmpty && model?.faults.isEmpty ?? true }

  /// Adds to each site what a file's metadata tells of the methods that were tried for it.
  package mutating func add(trials: JSONValue?) {
    for index in sites.indices {
      let tried = trials?[sites[index].root]?.object?.members ?? []
      sites[index].trials = tried.map { ($0.key, $0.value.double ?? .nan) }
    }
  }

  /// Adds to sites what quantization does there alone, by the site's producer.
  package mutating func add(errors: [String: SiteErrors]) {
    for index in sites.indices { sites[index].errors = errors[sites[index].site.producer] }
  }

  /// Judges what was observed of two models.
  ///
  /// - Parameters:
  ///   - weights: how linears' weights are stored, by node.
  ///   - sequences: all that were run.
  ///   - file: the packed model's, for refusals.
  /// - Throws: `Refusal` with rule `verify-graph`, or `verify-part` for observations of other nodes.
  package init(
    _ observations: RunObservations, packed: Graph, source: Graph, weights: StoredWeights, sequences: [TokenSequence],
    file: String, tolerance: Tolerance = Tolerance()
  ) throws {
    let plan = try ObservationPlan(source: source, packed: packed, packedPath: file)
    guard observations.fit(plan) else {
      throw Refusal("verify-part", "the parts are of other nodes than this file has", file: file)
    }
    let scheme = ModelScheme(graph: packed, weights: weights)
    self.scheme = scheme
    self.tolerance = tolerance
    let errors = observations.errors
    layers = plan.nodes.compactMap { node in
      guard let error = errors[node.name] else { return nil }
      var finding = LayerFinding(
        name: node.name, kind: node.kind, scheme: weights.description(of: node.name, in: packed),
        error: error, faults: node.kind.isJudged ? tolerance.faults(of: error, scheme: scheme) : [])
      guard let linear = packed.linear(for: node.name), case .linear = linear.operation else { return finding }
      finding.weightBits = weights.scheme(of: linear.name)?.bits
      finding.activationBits = linear.inputs.first.flatMap { packed.activations[$0]?.bits }
      finding.site = linear.inputs.first
      return finding
    }
    sites = observations.siteFindings(plan, packed)
    model = observations.comparison.map { ModelFinding($0, tolerance: tolerance, scheme: scheme) }
    tokenCount = sequences.reduce(0) { $0 + $1.tokenIDs.count }
    sequenceCount = sequences.count
  }

  /// Runs `packed` and `source` on `sequences`, and judges what is observed.
  ///
  /// - Parameters:
  ///   - weights: how linears' weights are stored, by node.
  ///   - comparesOutputs: whether the outputs are compared, too.
  /// - Throws: `Refusal` with rule `verify-graph` or `verify-no-text`, or as executors throw.
  package init(
    packed: any Executor, source: any Executor, weights: StoredWeights, sequences: [TokenSequence], file: String,
    comparesOutputs: Bool, tolerance: Tolerance = Tolerance(), byteCount: Int = RunObservations.defaultByteCount,
    threadCount: Int = 1, progress: ((Int, Int) throws -> Void)? = nil
  ) throws {
    let observations = try RunObservations(
      packed: packed, source: source, sequences: sequences, file: file, comparesOutputs: comparesOutputs,
      byteCount: byteCount, threadCount: threadCount, progress: progress)
    try self.init(
      observations, packed: packed.graph, source: source.graph, weights: weights, sequences: sequences, file: file,
      tolerance: tolerance)
  }
}
