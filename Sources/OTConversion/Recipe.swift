import OTFoundation
import OTGraph
import OTJSON
import OTModel
import OTObservation
import OTQuantization
import OTTensor

/// The decisions about a model before any weight is quantized: the graph after migration, how its
/// activations are made integer, and how the weights of its blocks are.
package struct Recipe: Sendable {
  /// The graph after migration; nil for a model of an unknown family.
  package let graph: Graph?
  /// The quantization of the weights of blocks' linears, by node; linears that are excluded have none.
  package private(set) var weights: [String: WeightPlan]
  /// The methods that decided, in the order in which they did.
  package private(set) var methods: [any QuantizationMethod]
  /// The origin of the observations that they used, which are not kept; nil where they needed nothing.
  package let observed: ModelObservations?

  /// The record of the methods, where an earlier process has decided; nil: as these say.
  package private(set) var keptRecord: JSONObject?

  /// The sites of the source's graph.
  private let sites: [Site]

  /// What was decided about each site in the end, by the site's producer in the source's graph; a site whose methods
  /// scaled what another had rotated has none.
  private let decisions: [String: SitePlan]

  /// The plans that were tried for a site before one was chosen, by the site's producer in the source's graph.
  package let trials: [String: [SitePlan.Trial]]

  /// The sites that no token of the calibration reached, since a router sends tokens elsewhere: a scale per token
  /// stands in for what the methods would have decided. By the site's producer in the source's graph.
  package let unreached: [String]

  /// Warnings for the user, a line each.
  var warnings: [String] {
    guard let first = unreached.first else { return [] }
    let rest = unreached.count > 1 ? " and \(unreached.count - 1) more" : ""
    return ["no token of the text came to '\(first)'\(rest): activations there get a scale per token"]
  }

  /// The rule by which weights are rounded, where it goes by what the network gives on samples of text.
  package var sampledRounding: (any RoundingRule)? {
    weights.values.lazy.filter { $0.scheme != nil }.map(\.rounding).first { !$0.needs.isEmpty }
  }

  /// The methods' names, joined by `+`.
  package var methodName: String { methods.map { type(of: $0).name }.joined(separator: "+") }

  /// The recipe of a model without a graph: its matrices are quantized, and nothing else.
  init() {
    (graph, weights, methods, observed) = (nil, [:], [WeightsOnly()], nil)
    (sites, decisions, trials, unreached) = ([], [:], [:], [])
  }

  /// Asks the methods about every site, one after the other, and moves their answers into the graph.
  ///
  /// A method sees the site as those before it have left it.
  /// - Throws: as methods, and migration.
  init(
    _ graph: Graph, _ parameters: ParameterReader, methods: [any QuantizationMethod], observed: ModelObservations?,
    options: ConversionOptions
  ) throws {
    var result = graph
    var activations: [String: ActivationQuantization] = [:]
    var weights: [String: WeightPlan] = [:]
    var trials: [String: [SitePlan.Trial]] = [:]
    var decisions: [String: SitePlan] = [:]
    let defaults = methods.last?.weightDefaults ?? WeightDefaults()
    let rounding = options.rounding ?? defaults.rounding
    var unreached: [String] = []
    // Rotations that nothing decided behind them depends on: put into the graph together, since each on its own takes as
    // long as the graph is large.
    var rotations: [(site: Site, rotation: Rotation)] = []
    var decided: [(linear: String, site: Site, plan: SitePlan)] = []
    let sites = graph.sites
    for site in sites {
      guard let bits = options.bits(forGroup: site.consumers, otherwise: options.bits),
        let linear = site.consumers.first
      else { continue }
      let request = SiteRequest(
        activationBits: options.activationBits ?? bits,
        activationScales: options.activations ?? methods.last?.activationDefault ?? .token,
        weight: WeightPlan(scheme: options.scheme(bits: bits, defaults), rounding: rounding))
      var methods = methods
      if let observed, observed[site].isEmpty, case .expert = graph.rows(of: site.producer),
        methods.contains(where: { !$0.needs.isEmpty })
      {
        unreached.append(site.producer)
        methods = [PerToken()]
      }
      var plan: SitePlan?
      var total: SiteTransform? = .identity
      for method in methods {
        // Migration may put nodes before the linears, or split them: they name the site then.
        guard let producer = result.linear(for: linear)?.inputs.first,
          let current = result.site(producedBy: producer)
        else { break }
        // Of a value that was rotated, or split, nothing is known.
        let isKnown = result.rotation(ofValue: producer) == nil && result.origin(of: producer).channels == nil
        let observed = isKnown ? observed?[site] : nil
        let known = (observed ?? SiteObservations()).transformed(by: result.transform(ofValue: producer))
        let answer = try method.plan(
          SiteContext(
            current, in: result, request: request, observed: known, parameters: parameters,
            threadCount: options.threadCount))
        if methods.count == 1, let rotation = answer.transform.soleRotation {
          rotations.append((current, rotation))
        } else {
          result = try result.migrating(current, by: answer.transform)
        }
        plan = answer
        total = total?.followed(by: answer.transform)
        if !answer.trials.isEmpty { trials[site.producer] = answer.trials }
      }
      guard let plan else { continue }
      decisions[site.producer] = total.map {
        SitePlan(transform: $0, activation: plan.activation, weight: plan.weight)
      }
      decided.append((linear, site, plan))
    }
    if !rotations.isEmpty { result = try result.rotating(rotations) }
    for (linear, site, plan) in decided {
      guard let producer = result.linear(for: linear)?.inputs.first else { continue }
      activations[producer] = plan.activation
      for linear in site.consumers.compactMap(result.linear) { weights[linear.name] = plan.weight }
    }
    self.graph = try result.quantizing(activations)
    self.weights = weights
    self.methods = methods
    self.observed = observed?.withoutSites
    self.trials = trials
    self.unreached = unreached
    self.decisions = decisions
    self.sites = sites
  }

  /// The decisions of an earlier process, as if they had just been made.
  ///
  /// - Parameters:
  ///   - kept: what was kept of them.
  ///   - methods: those that decided.
  ///   - record: theirs.
  /// - Throws: as migration.
  init(
    _ graph: Graph, _ parameters: ParameterReader, restoring kept: KeptRecipe, of methods: [any QuantizationMethod],
    record: JSONObject, options: ConversionOptions
  ) throws {
    try self.init(graph, parameters, methods: [kept], observed: nil, options: options)
    (self.methods, keptRecord) = (methods, record)
  }

  /// The decisions about all sites of the source's graph, to be kept.
  ///
  /// - Throws: `Refusal` with rule `recipe-order` where methods scaled what another had rotated.
  func keptSites() throws -> [String: SitePlan] {
    try sites.reduce(into: [:]) { kept, site in
      // Migration may have split the linears.
      let names = site.consumers.map { graph?.linear(for: $0)?.name ?? $0 }
      guard let weight = names.lazy.compactMap({ weights[$0] }).first else { return }
      guard var plan = decisions[site.producer] else {
        throw Refusal(
          "recipe-order", "at the site '\(site.producer)' a method scales what another has rotated, which is not kept")
      }
      plan.weight = weight
      kept[site.producer] = plan
    }
  }

  /// The same decisions, with other bits for some linears' weights.
  func with(bits: [String: Int]) -> Recipe {
    var result = self
    for (linear, bits) in bits {
      if let scheme = weights[linear]?.scheme?.with(bits: bits) { result.weights[linear]?.scheme = scheme }
    }
    return result
  }
}
