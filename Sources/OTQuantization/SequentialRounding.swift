import OTContainer
import OTFoundation
import OTGraph
import OTJSON
import OTKernels
import OTModel
import OTObservation
import OTRuntime
import OTTensor

/// Rounds the weights of a model site by site, in the order of execution, going by what the network
/// whose weights are rounded so far gives at each site.
///
/// The samples pass through the model once: from one site to the next only the values that later
/// nodes still need are kept, in memory where they leave room, else in a file without a name. Where a rule compares with
/// the float network, they pass through that beside, in the same steps.
package struct SequentialRounding: Sendable {
  /// Called with the sites done and in all, also between; what it throws ends the run.
  package typealias Progress = (_ doneCount: Int, _ totalCount: Int) throws -> Void

  /// A weight that was rounded, and its product with the shift of what it reads, which the bias takes up.
  private struct Pending {
    let weight: QuantizedWeight
    let shiftProduct: [Float]?
  }

  let graph: Graph
  let parameters: ParameterReader
  private let weights: [String: WeightPlan]
  private let threadCount: Int
  let maximumByteCount: Int
  /// The place of each node in the order of execution.
  private let order: [String: Int]
  /// The sites whose weights are quantized.
  let sites: [Site]
  /// Networks that the samples pass through: the quantized one, and the float one where a rule compares with it.
  let networkCount: Int

  /// The rounding of a graph whose migration and activations are decided.
  ///
  /// - Parameters:
  ///   - weights: the plan of each linear's weight, by node.
  ///   - maximumByteCount: memory for values of the samples.
  package init(
    graph: Graph, parameters: ParameterReader, weights: [String: WeightPlan], threadCount: Int, maximumByteCount: Int
  ) {
    self.graph = graph
    self.parameters = parameters
    self.weights = weights
    self.threadCount = threadCount
    self.maximumByteCount = maximumByteCount
    order = Dictionary(uniqueKeysWithValues: graph.nodes.enumerated().map { ($1.name, $0) })
    sites = SequentialRounding.sites(of: graph, weights: weights)
    networkCount = weights.values.contains { $0.scheme != nil && $0.rounding.comparesWithFloat } ? 2 : 1
  }

  /// The sites of a graph whose weights are quantized, in the order in which they are rounded.
  package static func sites(of graph: Graph, weights: [String: WeightPlan]) -> [Site] {
    graph.sites.filter { $0.consumers.contains { weights[$0]?.scheme != nil } }
  }

  /// The rule of a site's weights.
  func rule(_ site: Site) -> any RoundingRule {
    site.consumers.lazy.compactMap { weights[$0]?.rounding }.first ?? NearestRounding()
  }

  func pass(to site: Site, for rule: any RoundingRule, keeping kept: [String]) -> CalibrationPass {
    var pass = CalibrationPass(rule.needs)
    pass.sites = [site.producer]
    pass.kept = kept
    return pass
  }

  // MARK: Running

  /// Rounds all weights whose rule goes by observations, and no others.
  ///
  /// - Parameters:
  ///   - samples: token IDs.
  ///   - folder: has room for a byte for each such weight, and for values that memory has no room for.
  ///   - work: keeps the weights of each site; those that it has are not rounded again.
  /// - Throws: as calibration, rounding rules and quantizers throw; `Refusal` with rule `scratch-unwritable`.
  package func run(
    _ samples: [TokenSequence], in folder: String, keptBy work: ResumableWork? = nil, progress: Progress? = nil
  ) throws -> RoundedWeights {
    var state = RoundingState()
    return try run(samples, sites: sites.indices, from: &state, in: folder, keptBy: work, progress: progress)
  }

  /// Rounds the weights of some sites.
  ///
  /// - Parameters:
  ///   - range: the sites, by their places in `sites(of:weights:)`.
  ///   - state: what rounding the sites before them has left; then what the sites after them need.
  ///   - work: for all sites.
  /// - Throws: as the run over all sites, and as what keeps the state throws.
  package func run(
    _ samples: [TokenSequence], sites range: Range<Int>, from state: inout RoundingState, in folder: String,
    keptBy work: ResumableWork? = nil, progress: Progress? = nil
  ) throws -> RoundedWeights {
    try BLAS.load(threadCount: threadCount)
    let samples = samples.filter { !$0.tokenIDs.isEmpty }
    let scratch = try work.map { try ScratchFile(keptAt: $0.path("rounded")) } ?? ScratchFile(in: folder)
    try work.map { try FileSystem.synchronize($0.folder) }
    var rounded = RoundedWeights(in: scratch)
    let doneCount = try work.map { try restore($0.rows(Self.step), into: &rounded) } ?? 0
    if doneCount == sites.count {
      try progress?(doneCount, sites.count)
      return rounded
    }
    // Weights in memory: of linears that have not been passed yet.
    var pending: [String: Pending] = [:]
    for (linear, rows) in state.weights {
      guard let use = graph.parameterUses(of: linear).first(where: { $0.role == .weight }),
        let scheme = weights[linear]?.scheme(for: use.shape)
      else { continue }
      pending[linear] = Pending(
        weight: try QuantizedWeight(rows, use.shape, scheme), shiftProduct: rows.shiftProduct)
      if range.upperBound < sites.count { try rounded.add(rows, of: linear, scheme: scheme) }
    }
    state.weights = [:]
    let keptByteCount = keptByteCount(lengths: samples.map(\.tokenIDs.count))
    try progress?(range.lowerBound, sites.count)
    let frontiers = graph.frontiers(at: Array(sites[range]))
    for (index, kept) in zip(range, frontiers) {
      let site = sites[index]
      let rule = rule(site)
      let between: Calibrator.Progress = { _, _ in try progress?(index, sites.count) }
      var pass = pass(to: site, for: rule, keeping: kept)
      // What is there already has no need of observations: the samples only pass through.
      let isDone = index < doneCount && !rule.needs.isEmpty
      if isDone { pass.kinds = [] }
      let tokenCount = samples.reduce(0) { $0 + $1.tokenIDs.count }
      let byteCount = pass.kept.reduce(0) { $0 + (graph.channelCount(of: $1) ?? 0) * tokenCount * 4 }
      // Those before are in memory or in a file of their own until these are all there.
      let isInFile = byteCount + state.values.byteCount > keptByteCount
      if isInFile { pass.scratch = try ScratchFile(in: folder) }
      if networkCount > 1 {
        var floatPass = CalibrationPass([])
        floatPass.kept = pass.kept
        if isInFile { floatPass.scratch = try ScratchFile(in: folder) }
        try advanceFloat(to: site, floatPass, samples, from: &state.floatValues, progress: between)
      }
      let observed = try advance(
        to: site, pass, samples, from: &state.values, pending,
        comparingWith: !isDone && rule.comparesWithFloat ? state.floatValues : nil, progress: between)
      pending = pending.filter { order[$0.key, default: 0] > order[site.producer, default: 0] }
      if !isDone, !rule.needs.isEmpty, observed.isEmpty { rounded.unreached.append(site.producer) }
      let rounding = try isDone ? nil : rule.fitted(to: consume observed)
      var records: [JSONValue] = []
      for (use, scheme) in quantizedUses(of: site) {
        let rows: QuantizedRows
        if let rounding {
          rows = try WeightQuantizer(
            parameters.rows(of: use), scheme: scheme,
            rounding: graph.givesScores(use.node) ? rounding.unclipped : rounding, inputZero: use.inputZero,
            threadCount: threadCount
          ).quantizeAll(threadCount: threadCount)
          // Those that another process will need are kept whatever their rule.
          if !rule.needs.isEmpty || range.upperBound < sites.count {
            try rounded.add(rows, of: use.node, scheme: scheme)
            if work != nil { records.append(.object(try rounded.keep(rows, of: use.node))) }
          }
        } else {
          guard let kept = try rounded.rows(0..<use.shape.rowCount, of: use.node) else { continue }
          rows = kept
        }
        if index < sites.count - 1 {
          pending[use.node] = Pending(
            weight: try QuantizedWeight(rows, use.shape, scheme), shiftProduct: rows.shiftProduct)
        }
      }
      if let work, index >= doneCount {
        try rounded.synchronize()
        try work.keep(
          Self.step, index,
          ["weights": .array(records), "isReached": .bool(rounded.unreached.last != site.producer)])
      }
      try progress?(index + 1, sites.count)
    }
    for linear in pending.keys where range.upperBound < sites.count {
      state.weights[linear] = try rounded.rows(of: linear)
    }
    return rounded
  }

  private static let step = "rounded"

  /// The weights of a site that are quantized, with their schemes.
  private func quantizedUses(of site: Site) -> [(use: ParameterUse, scheme: QuantizationScheme)] {
    site.consumers.flatMap(graph.parameterUses(of:)).compactMap { use in
      guard use.role == .weight, let scheme = weights[use.node]?.scheme(for: use.shape) else { return nil }
      return (use, scheme)
    }
  }

  /// Adds the weights that an earlier process has rounded.
  ///
  /// - Returns: the sites that are done. Weights whose rule needs nothing are not kept, and are rounded again.
  private func restore(_ rows: [JSONObject], into rounded: inout RoundedWeights) throws -> Int {
    for (index, (site, row)) in zip(sites, rows).enumerated() {
      guard let records = row["weights"]?.array, let isReached = row["isReached"]?.bool else { return index }
      let uses = rule(site).needs.isEmpty ? [] : quantizedUses(of: site)
      let before = rounded
      let isRestored =
        records.count == uses.count
        && zip(records, uses).allSatisfy { record, place in
          rounded.restore(record, of: place.use.node, shape: place.use.shape, scheme: place.scheme)
        }
      guard isRestored else {
        rounded = before
        return index
      }
      if !isReached { rounded.unreached.append(site.producer) }
    }
    return min(rows.count, sites.count)
  }

  /// Runs the samples on to a site in float; `values` are then those that the rest needs.
  private func advanceFloat(
    to site: Site, _ pass: CalibrationPass, _ samples: [TokenSequence], from values: inout KeptValues,
    progress: Calibrator.Progress?
  ) throws {
    var pass = pass
    pass.given = values
    let executor = try FloatExecutor(
      graph: graph, parameters: parameters, threadCount: threadCount, cachesParameters: false)
    let calibrator = Calibrator(executor: executor, parameterByteCount: nil, maximumByteCount: room(at: site))
    values = try calibrator.run(samples, pass: pass, progress: progress).values
  }

  /// Runs the samples on to a site and observes it; `values` are then those that the rest needs.
  private func advance(
    to site: Site, _ pass: CalibrationPass, _ samples: [TokenSequence], from values: inout KeptValues,
    _ pending: [String: Pending], comparingWith floatValues: KeptValues?, progress: Calibrator.Progress?
  ) throws -> SiteObservations {
    var pass = pass
    pass.given = values
    let part = try GraphPart(of: graph, from: values.nodes, until: pass.kept)
    let executor = try QuantizedExecutor(
      graph: graph,
      parameters: PartParameters(
        parameters, nodes: Set(part.nodes.map(\.name)), shiftProducts: pending.compactMapValues(\.shiftProduct)),
      weights: pending.mapValues(\.weight), threadCount: threadCount)
    // Weights are in memory: small batches, whose memory is used again, are faster than large ones.
    let calibrator = Calibrator(
      executor: executor, parameterByteCount: 0, maximumByteCount: room(at: site))
    var outcome = try calibrator.run(samples, pass: pass, progress: progress)
    values = outcome.values
    // Taken out, so that a rule can work where they are.
    var observed = outcome.sites.removeValue(forKey: site.producer) ?? SiteObservations()
    // The two networks send other tokens to an expert: its rows are no pairs.
    guard let floatValues, graph.rows(of: site.producer) == .tokens else { return observed }
    var drift = InputDrift(channelCount: site.size, threadCount: threadCount)
    for sample in samples.indices {
      try drift.add(
        float: floatValues.matrix(of: site.producer, sample: sample),
        quantized: values.matrix(of: site.producer, sample: sample))
    }
    observed.drift = drift.products
    return observed
  }
}

extension WeightPlan {
  /// The scheme of a weight of this shape; nil where it stays float, or is too small to be worth it.
  package func scheme(for shape: Shape) -> QuantizationScheme? {
    guard shape.rank == 2, shape.rowCount >= TileLayout.leastRowCount, shape.rowElementCount > 0 else { return nil }
    return scheme
  }
}

extension WeightQuantizer {
  /// Rows that are quantized together on one thread: a multiple of those that are read together.
  private static let blockRowCount = 64

  /// Quantizes the whole weight.
  ///
  /// - Throws: as `quantize(rows:)`.
  func quantizeAll(threadCount: Int) throws -> QuantizedRows {
    let size = WeightQuantizer.blockRowCount
    let blocks = try mapBlocks((rowCount + size - 1) / size, threadCount: threadCount) { block in
      try quantize(rows: block * size..<min((block + 1) * size, rowCount))
    }
    rows.view.release(0..<rowCount)
    return blocks.dropFirst().reduce(into: blocks.first ?? QuantizedRows(rows: 0..<0)) { $0.append($1) }
  }
}

extension QuantizedWeight {
  /// A whole weight that was just quantized.
  init(_ rows: QuantizedRows, _ shape: Shape, _ scheme: QuantizationScheme) throws {
    let layout = TileLayout(rowCount: shape.rowCount, columnCount: shape.rowElementCount)
    try self.init(
      tiles: Kernels.current.interleaved(rows.values, layout), layout: layout, scheme: scheme, scales: rows.scales,
      zeroPoints: rows.zeroPoints)
  }
}

/// The parameters of some nodes; those of others are zeros, and nothing is read for them.
struct PartParameters: ParameterSource {
  private let parameters: ParameterReader
  private let nodes: Set<String>
  /// W·z of linears whose weights are rounded, for their biases.
  private let shiftProducts: [String: [Float]]

  init(_ parameters: ParameterReader, nodes: Set<String>, shiftProducts: [String: [Float]]) {
    self.parameters = parameters
    self.nodes = nodes
    self.shiftProducts = shiftProducts
  }

  func read(_ use: ParameterUse, rows: Range<Int>, into target: UnsafeMutableBufferPointer<Float>) throws {
    guard nodes.contains(use.node) else { return target.update(repeating: 0) }
    if use.role == .bias, let product = shiftProducts[use.node] {
      _ = target.update(
        fromContentsOf: try parameters.vector(use, rows: rows, shiftProduct: Array(product[rows])))
      return
    }
    try parameters.read(use, rows: rows, into: target)
  }
}
