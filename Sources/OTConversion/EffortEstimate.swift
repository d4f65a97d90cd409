import OTContainer
import OTFoundation
import OTGraph
import OTObservation
import OTQuantization
import OTRuntime
import OTTensor

/// What converting a model takes with an effort, foretold from its shapes and the speed of this machine.
package struct EffortEstimate: Sendable {
  /// The effort.
  package let effort: Effort
  /// Seconds of all processors together.
  package let processorSeconds: Double
  /// Memory in bytes, the mapped source and the program itself not counted; nil where it does not fit.
  package let byteCount: Int?
  /// Why it would be refused: it needs more memory than there may be.
  package var refusal: Refusal?
}

/// The speed of one processor at what conversions consist of, measured in a fraction of a second.
package struct ConversionSpeed: Sendable {
  /// Multiplications and additions of a float product in a second.
  let products: Double
  /// Weights that are quantized to nearest in a second.
  let nearest: Double
  /// Weights that are quantized to nearest and encoded in a second.
  let encoded: Double
  /// Seconds that a rounding by observations takes for a weight, without the products that are in it.
  let rounded: Double

  /// Measures the speed with the kernels and the libraries that conversions use.
  ///
  /// - Parameter rule: the rounding by observations; nil where the model is not run on text: no BLAS is needed then.
  /// - Throws: as `BLAS.load`, and as encoding throws.
  package init(bits: Int, rule: (any RoundingRule)?) throws {
    let (rowCount, columnCount) = (128, 512)
    let weights = (0..<rowCount * columnCount).map { index -> Float in
      // A cheap sequence without a pattern, between −1 and 1.
      Float(Int32(truncatingIfNeeded: index &* 2_654_435_761)) / 2_147_483_648
    }
    let block = RoundedBlock(weights, columnCount: columnCount, bits: bits)
    let nearestSeconds = ConversionSpeed.seconds { block.round(NearestRounding()) }
    nearest = Double(weights.count) / nearestSeconds
    let encoder = ChunkEncoder(.standard)
    let values = block.round(NearestRounding())
    let encodingSeconds = try ConversionSpeed.seconds {
      _ = try encoder.encode(rows: values, columnCount: columnCount, bits: bits)
    }
    encoded = Double(weights.count) / (nearestSeconds + encodingSeconds)
    guard let rule else {
      (products, rounded) = (.infinity, 0)
      return
    }
    try BLAS.load(threadCount: 1)
    var result = [Float](repeating: 0, count: rowCount * rowCount)
    products =
      Double(rowCount * rowCount * columnCount)
      / ConversionSpeed.seconds {
        weights.withUnsafeBufferPointer { values in
          result.withUnsafeMutableBufferPointer { result in
            guard let base = values.baseAddress, let target = result.baseAddress else { return }
            let operand = BLAS.Operand(base: base, stride: columnCount)
            BLAS.multiplyTransposed(
              m: rowCount, n: rowCount, k: columnCount, operand, operand, adds: false, into: target, stride: rowCount)
          }
        }
      }
    var moments = [Double](repeating: 0.1, count: columnCount * columnCount)
    for channel in 0..<columnCount { moments[channel * columnCount + channel] = 1 }
    var observed = SiteObservations()
    observed.moments = SecondMoments(
      rowCount: 1, sums: [Double](repeating: 0, count: columnCount), products: moments)
    let rounding = try rule.fitted(to: observed)
    let seconds = ConversionSpeed.seconds { block.round(rounding) } / Double(weights.count)
    rounded = max(seconds - Double(columnCount) / 2 / products, 0)
  }

  /// Seconds that rounding the weights of a site by text takes, beside running the model: second moments, their factors,
  /// and the rule.
  ///
  /// - Parameter rowCount: of all weights that read the site.
  func roundingSeconds(channelCount: Int, rowCount: Double, tokenCount: Double) -> Double {
    let n = Double(channelCount)
    // Factors in float64, with half as many numbers to a register.
    return tokenCount * n * n / 2 / products + n * n * n / 3 / (products / 2)
      + rowCount * n * (n / 2 / products + rounded)
  }

  /// Seconds of one call, the least of several.
  private static func seconds(_ body: () throws -> Void) rethrows -> Double {
    let clock = ContinuousClock()
    try body()
    var least = Double.infinity
    let end = clock.now + .milliseconds(40)
    repeat {
      let start = clock.now
      try body()
      least = min(least, (clock.now - start) / .seconds(1))
    } while clock.now < end
    return max(least, 1e-9)
  }
}

extension Conversion {
  /// What each effort takes on samples of these lengths.
  ///
  /// Time is counted in products: a run of the model in float, on as much of the samples as is observed, one in
  /// integers (at a third of the time), second moments, their factors, the rule's rounding, and the check on held-out
  /// samples; for `thorough` the float runs on all samples, and trials of every method at every site. Memory is that of the largest phase.
  /// - Parameters:
  ///   - lengths: tokens of each sample; nil where the model cannot be run on text.
  ///   - heldOutLengths: tokens of each held-out sample.
  /// - Throws: as planning and executors throw.
  package func estimates(
    lengths: [Int]?, heldOutLengths: [Int], calibration: Calibration, speed: ConversionSpeed
  ) throws -> [EffortEstimate] {
    var options = self.options
    options.rounding = lengths == nil ? NearestRounding() : options.rounding ?? Best().weightDefaults.rounding
    // Sizes do not depend on what methods decide.
    let plan = try plan(options: options, assumingPerToken: true)
    let work = Work(plan, lengths: lengths, heldOutLengths, speed)
    var estimates = [EffortEstimate(effort: .fast, processorSeconds: work.fast, byteCount: 0)]
    guard let lengths, let graph = plan.graph else { return estimates }
    let choices: [(Effort, any QuantizationMethod, Double)] = [
      (.standard, Best(), work.standard), (.thorough, SiteChoice(), work.standard + work.more),
    ]
    for (effort, method, seconds) in choices {
      let rule = self.options.rounding ?? method.weightDefaults.rounding
      let weights = plan.recipe.weights.mapValues { WeightPlan(scheme: $0.scheme, rounding: rule) }
      do {
        let rounding = SequentialRounding(
          graph: graph, parameters: model.parameters, weights: weights, threadCount: 1,
          maximumByteCount: calibration.maximumByteCount ?? Machine.memoryByteCount / 2)
        try calibration.check(least: rounding.leastByteCount(lengths: lengths), lengths: lengths)
        let observing = try calibration.byteCount(on: model, kinds: method.needs, lengths: lengths)
        estimates.append(
          EffortEstimate(
            effort: effort, processorSeconds: seconds,
            byteCount: max(observing, try rounding.byteCount(lengths: lengths))))
      } catch let refusal as Refusal where refusal.rule == "calibration-memory" {
        estimates.append(
          EffortEstimate(effort: effort, processorSeconds: seconds, byteCount: nil, refusal: refusal))
      }
    }
    return estimates
  }
}

/// Seconds of one processor for the parts of a conversion.
private struct Work {
  private(set) var fast = 0.0
  private(set) var standard = 0.0
  /// What `thorough` takes beside.
  private(set) var more = 0.0

  /// The share of the time of a float product that one of integers takes.
  fileprivate static let integerShare = 1.0 / 3
  /// Plans that a choice for each site tries, thresholds of Outlier Suppression+ apart.
  private static let trialCount = 7.0
  /// Thresholds that Outlier Suppression+ tries for a choice.
  private static let thresholdCount = 16.0
  /// Times that rounding takes to make weights that can be multiplied: they are read, transformed, rounded and packed.
  private static let weightShare = 2.0
  /// A trial relative to its weights and products: values are copied, transformed and compared.
  private static let trialShare = 2.8
  /// All else relative to its products: norms, gates, rotations and sums go row by row. As it was on SmolLM2.
  private static let wholeShare = 1.5

  init(_ plan: ConversionPlan, lengths: [Int]?, _ heldOutLengths: [Int], _ speed: ConversionSpeed) {
    let weights = plan.tensors.filter { if case .quantized = $0.treatment { true } else { false } }
    let weightCount = weights.reduce(0.0) { $0 + Double($1.shape.elementCount) }
    fast = weightCount / speed.encoded
    guard let lengths, let graph = plan.graph else { return }
    let tokens = Double(lengths.reduce(0, +))
    let blockProducts = weights.filter(\.isBlockWeight).reduce(0.0) { $0 + Double($1.shape.elementCount) }
    // Queries with keys, and weights with values: half of all pairs in a causal model.
    let attention = graph.nodes.reduce(0.0) { sum, node in
      guard case .attention = node.operation else { return sum }
      return sum + Double(graph.channelCount(of: node.name) ?? 0)
    }
    func run(_ lengths: [Int], _ products: Double) -> Double {
      lengths.reduce(0.0) { $0 + Double($1) * (products + attention * Double($1)) } / speed.products
    }
    let observed = Best().needs.samples(of: graph, lengths: lengths).map { lengths[$0] }
    let float = run(observed, blockProducts)
    standard = float + run(lengths, blockProducts) * Work.integerShare
    standard += run(heldOutLengths, weightCount) * (1 + Work.integerShare)
    more += 2 * run(lengths, blockProducts) - float
    for site in graph.sites where site.consumers.contains(where: { plan.recipe.weights[$0]?.scheme != nil }) {
      let n = Double(site.size)
      let rows = site.consumers.flatMap(graph.parameterUses(of:)).filter { $0.role == .weight }
        .reduce(0.0) { $0 + Double($1.shape.rowCount) }
      standard += speed.roundingSeconds(channelCount: site.size, rowCount: rows, tokenCount: tokens)
      let sampleLength = Double(lengths.max() ?? 0)
      // Products of differences, their solution, and what weights gain by it.
      more += tokens * n * n / speed.products + n * n * n / (speed.products / 2) + rows * n * n / speed.products
      let made = Work.weightShare * rows * n / speed.nearest
      func trial(_ tokens: Double) -> Double {
        Work.trialShare * (made + tokens * rows * n * Work.integerShare / speed.products)
      }
      more += Work.trialCount * trial(512) + 512 * rows * n / speed.products
      if site.isNormFed || site.fedBy == .gate {
        more += Work.thresholdCount * trial(sampleLength)
      }
    }
    standard = fast + standard * Work.wholeShare
    more *= Work.wholeShare
  }
}

extension ConversionSpeed {
  /// Seconds of one processor that making these tensors takes, and rounding weights by text at these sites.
  ///
  /// - Parameter tokenCount: tokens that pass through the sites.
  func seconds(_ tensors: [PlannedTensor], sites: some Sequence<Site>, of plan: ConversionPlan, tokenCount: Int)
    -> Double
  {
    let weights = tensors.filter { if case .quantized = $0.treatment { true } else { false } }
    var seconds = weights.reduce(0) { $0 + Double($1.shape.elementCount) } / encoded
    guard let graph = plan.graph else { return seconds }
    for site in sites {
      let rows = site.consumers.flatMap(graph.parameterUses(of:)).filter { $0.role == .weight }
        .reduce(0.0) { $0 + Double($1.shape.rowCount) }
      seconds += roundingSeconds(channelCount: site.size, rowCount: rows, tokenCount: Double(tokenCount))
      seconds += Double(tokenCount) * rows * Double(site.size) * Work.integerShare / products
    }
    return seconds
  }
}
