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
    /// At the attention, or the product of a gate and what it gates, that reads these linears; at the
    /// linears where neither does.
    case junction
    /// At the linear that reads what `junction` is; at the linears where there is none.
    case module
  }

  private let site: Site
  private let graph: Graph
  private let observed: SiteObservations
  private let parameters: ParameterReader
  private let threadCount: Int
  private let references = References()

  init(
    of site: Site, in graph: Graph, _ observed: SiteObservations, _ parameters: ParameterReader, threadCount: Int
  ) {
    self.site = site
    self.graph = graph
    self.observed = observed
    self.parameters = parameters
    self.threadCount = threadCount
  }

  /// The error of a plan on the site's kept rows: `rows` at the linears, `wholeSamples` beyond.
  ///
  /// - Throws: `Refusal` with rule `trial-rows` where no such rows were observed, or as migration,
  ///   the quantizer and executors throw.
  package func error(of plan: SitePlan, through depth: Depth = .linears) throws -> TrialError {
    guard let kept = depth == .linears ? observed.rows ?? observed.wholeSamples : observed.wholeSamples else {
      throw Refusal("trial-rows", "no rows of '\(site.producer)' were kept to try plans on")
    }
    let values = kept.matrices
    let ends = ends(depth)
    let expected = try references.results(depth) {
      let source = try FloatExecutor(
        graph: graph, parameters: part(of: graph, until: ends), threadCount: threadCount)
      return try run(source, values, until: ends)
    }

    var tried = try graph.migrating(site, by: plan.transform)
    let isPushed = tried.transforms[site.producer] != graph.transforms[site.producer]
    // Migration may put nodes before the linears, or split them: they name the site then.
    let linears = site.consumers.compactMap(tried.linear)
    let producer = linears.first?.inputs.first ?? site.producer
    tried = try tried.quantizing([producer: plan.activation])
    let quantized = try NearestWeights(
      of: linears.map(\.name), in: tried, parameters, threadCount: threadCount
    ) { _ in plan.weight }
    let executor = try QuantizedExecutor(
      graph: tried, parameters: part(of: tried, until: ends, quantized.shiftProducts), weights: quantized.weights,
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
    guard depth != .linears else { return site.consumers }
    var ends: [String] = []
    for linear in site.consumers {
      var end = junction(behind: linear, depth) ?? linear
      if depth == .module, end != linear { end = self.linear(behind: end) ?? end }
      if !ends.contains(end) { ends.append(end) }
    }
    return ends
  }

  /// What joins a projection with others, through what lies between them: slices, norms of heads, the
  /// function of a gate.
  private func junction(behind linear: String, _ depth: Depth) -> String? {
    var names = graph.consumers(of: linear)
    while let name = names.popLast(), let operation = graph[name]?.operation {
      switch operation {
      case .attention: return name
      case .multiply where depth != .attention: return name
      case .linear, .add: continue
      default: names += graph.consumers(of: name)
      }
    }
    return nil
  }

  private func linear(behind name: String) -> String? {
    graph.consumers(of: name).first {
      if case .linear? = graph[$0]?.operation { true } else { false }
    }
  }

  private func part(
    of graph: Graph, until ends: [String], _ shiftProducts: [String: [Float]] = [:]
  ) throws -> PartParameters {
    PartParameters(
      parameters, nodes: Set(try GraphPart(of: graph, from: [site.producer], until: ends).nodes.map(\.name)),
      shiftProducts: shiftProducts)
  }

  private func run(_ executor: some Executor, _ values: [Matrix], until ends: [String]) throws -> [ExecutionResult] {
    try executor.run(
      values.map { TokenSequence(length: $0.rowCount) }, from: [site.producer: values], until: ends, observe: nil)
  }
}

/// What the float model gives at each depth, run once for all trials of a site.
private final class References: Sendable {
  private let made = Lock<[SiteTrial.Depth: [ExecutionResult]]>([:])

  func results(_ depth: SiteTrial.Depth, _ make: () throws -> [ExecutionResult]) throws -> [ExecutionResult] {
    try made.withLock { made in
      if let results = made[depth] { return results }
      let results = try make()
      made[depth] = results
      return results
    }
  }
}
