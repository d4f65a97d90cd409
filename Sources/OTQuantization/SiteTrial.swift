import OTFoundation
import OTGraph
import OTKernels
import OTModel
import OTObservation
import OTRuntime
import OTTensor

/// The error of a plan's outputs against those of floats, over all outputs and kept rows.
package struct TrialError: Sendable, Hashable {
  /// Σ(y − ŷ)², in float64.
  package var squaredError = 0.0
  /// Σy² of the float outputs, in float64.
  package var squares = 0.0

  /// Nothing compared yet.
  package init() {}

  /// Σ(y − ŷ)² / Σy²: 0 where nothing differs, infinite where y alone is 0.
  package var relative: Double { squaredError == 0 ? 0 : squaredError / squares }
}

/// Runs a site's linears with a plan, by the real quantizer and the real kernels, on rows that calibration kept.
/// Weights are rounded to nearest, whatever the plan says: plans are compared before their rounding is fitted.
package struct SiteTrial: Sendable {
  /// The depth of the graph at which outputs are compared.
  package enum Depth: Sendable, Hashable {
    /// At the linears that read the site.
    case linears
    /// At the attention that reads these linears; at the linears where none does.
    case attention
  }

  private let site: Site
  private let graph: Graph
  private let observed: SiteObservations
  private let parameters: ParameterReader
  private let threadCount: Int

  init(
    of site: Site, in graph: Graph, _ observed: SiteObservations, _ parameters: ParameterReader, threadCount: Int
  ) {
    self.site = site
    self.graph = graph
    self.observed = observed
    self.parameters = parameters
    self.threadCount = threadCount
  }

  /// The error of a plan on the site's kept rows: `rows` at the linears, `wholeSamples` through attention.
  ///
  /// - Throws: `Refusal` with rule `trial-rows` where no such rows were observed, or as migration,
  ///   the quantizer and executors throw.
  package func error(of plan: SitePlan, through depth: Depth = .linears) throws -> TrialError {
    guard let kept = depth == .attention ? observed.wholeSamples : observed.rows ?? observed.wholeSamples else {
      throw Refusal("trial-rows", "no rows of '\(site.producer)' were kept to try plans on")
    }
    let values = kept.matrices
    let ends = ends(depth)
    let source = try FloatExecutor(
      graph: graph, parameters: part(of: graph, until: ends), threadCount: threadCount)
    let expected = try run(source, values, until: ends)

    var tried = try graph.migrating(site, by: plan.transform)
    let isPushed = tried.transforms[site.producer] != graph.transforms[site.producer]
    // Migration may put nodes before the linears: they name the site then.
    let producer = site.consumers.first.flatMap { tried[$0]?.inputs.first } ?? site.producer
    tried = try tried.quantizing([producer: plan.activation])
    let executor = try QuantizedExecutor(
      graph: tried, parameters: part(of: tried, until: ends), weights: weights(of: tried, plan.weight),
      threadCount: threadCount)
    let given =
      isPushed
      ? values.map {
        Matrix(
          rowCount: $0.rowCount, channelCount: $0.channelCount, values: plan.transform.channels.applied(to: $0.values))
      } : values
    let actual = try run(executor, given, until: ends)
    var error = TrialError()
    for (expected, actual) in zip(expected, actual) {
      for name in ends {
        for (y, approximation) in zip(try expected.output(name).values, try actual.output(name).values) {
          let difference = Double(y) - Double(approximation)
          error.squaredError += difference * difference
          error.squares += Double(y) * Double(y)
        }
      }
    }
    return error
  }

  // MARK: The part that is run

  private func ends(_ depth: Depth) -> [String] {
    guard depth == .attention else { return site.consumers }
    var ends: [String] = []
    for linear in site.consumers {
      let end = attention(behind: linear) ?? linear
      if !ends.contains(end) { ends.append(end) }
    }
    return ends
  }

  /// The attention that reads a projection, through what lies between them: slices, norms of heads.
  private func attention(behind linear: String) -> String? {
    var names = graph.consumers(of: linear)
    while let name = names.popLast(), let operation = graph[name]?.operation {
      switch operation {
      case .attention: return name
      case .linear, .add: continue
      default: names += graph.consumers(of: name)
      }
    }
    return nil
  }

  private func part(of graph: Graph, until ends: [String]) throws -> PartParameters {
    PartParameters(
      parameters, nodes: Set(try GraphPart(of: graph, from: [site.producer], until: ends).nodes.map(\.name)))
  }

  private func run(_ executor: some Executor, _ values: [Matrix], until ends: [String]) throws -> [ExecutionResult] {
    try executor.run(
      values.map { TokenSequence(length: $0.rowCount) }, from: [site.producer: values], until: ends, observe: nil)
  }

  private func weights(of graph: Graph, _ plan: WeightPlan) throws -> [String: QuantizedWeight] {
    var weights: [String: QuantizedWeight] = [:]
    for use in site.consumers.flatMap(graph.parameterUses(of:)) where use.role == .weight {
      guard let scheme = plan.scheme(for: use.shape) else { continue }
      let rows = try WeightQuantizer(parameters.rows(of: use), scheme: scheme, threadCount: threadCount)
        .quantizeAll(threadCount: threadCount)
      weights[use.node] = try QuantizedWeight(rows, use.shape, scheme)
    }
    return weights
  }
}
