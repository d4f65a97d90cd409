import OTFoundation
import OTGraph
import OTQuantization

/// What making one part of a plan takes, foretold from shapes and the speed of this machine.
package struct PartEstimate: Sendable {
  /// Tensors that it writes.
  package fileprivate(set) var tensorCount = 0
  /// Bytes of the source that it reads.
  package fileprivate(set) var sourceByteCount = 0
  /// Bytes that it writes, about.
  package fileprivate(set) var storedByteCount = 0
  /// Seconds of all its processors together.
  package fileprivate(set) var processorSeconds = 0.0
  /// Memory in bytes for what the network gives on text, the mapped source and the program itself not counted.
  package fileprivate(set) var byteCount = 0
  /// Bytes of the values that it leaves for the next part, which reads them.
  package fileprivate(set) var passedByteCount = 0
}

extension PartedPlan {
  /// The sites whose weights each part rounds by text, by their places in `SequentialRounding.sites`.
  func sites(of plan: ConversionPlan) -> [Range<Int>] {
    var parts: [String: Int] = [:]
    for (planned, tensor) in zip(plan.tensors, tensors) {
      guard case .quantized = planned.treatment, let node = planned.use?.node else { continue }
      parts[node] = tensor.part
    }
    var sites = [Range<Int>](repeating: 0..<0, count: partCount)
    var current = 0
    for (index, site) in plan.roundedSites.enumerated() {
      current = max(current, site.consumers.compactMap { parts[$0] }.max() ?? current)
      sites[current] = (sites[current].isEmpty ? index : sites[current].lowerBound)..<index + 1
    }
    return sites
  }

  /// What each part takes.
  ///
  /// - Parameters:
  ///   - lengths: tokens of each sample, where weights are rounded by text.
  ///   - maximumByteCount: memory for values of the samples.
  /// - Throws: as measuring the machine's speed and executors throw.
  package func estimates(_ plan: ConversionPlan, lengths: [Int], maximumByteCount: Int) throws -> [PartEstimate] {
    let speed = try ConversionSpeed(bits: plan.options.bits, rule: plan.recipe.sampledRounding)
    var estimates = [PartEstimate](repeating: PartEstimate(), count: partCount)
    var own = [[PlannedTensor]](repeating: [], count: partCount)
    for (planned, tensor) in zip(plan.tensors, tensors) {
      own[tensor.part].append(planned)
      estimates[tensor.part].tensorCount += 1
      estimates[tensor.part].sourceByteCount += planned.readByteCount
      estimates[tensor.part].storedByteCount += planned.storedByteCount(plan.options.compression)
    }
    let (sites, ranges) = (plan.roundedSites, self.sites(of: plan))
    let tokenCount = lengths.reduce(0, +)
    let rounding = plan.graph.map { graph in
      SequentialRounding(
        graph: graph, parameters: plan.model.parameters, weights: plan.recipe.weights, threadCount: 1,
        maximumByteCount: maximumByteCount)
    }
    let byteCounts = sites.isEmpty ? nil : try rounding?.byteCounts(lengths: lengths, of: ranges)
    for part in estimates.indices {
      estimates[part].processorSeconds = speed.seconds(
        own[part], sites: sites[ranges[part]], of: plan, tokenCount: tokenCount)
      guard let rounding, let byteCounts, let last = ranges[part].last else { continue }
      estimates[part].byteCount = byteCounts[part]
      if last < sites.count - 1 {
        estimates[part].passedByteCount = rounding.passedByteCount(after: last, tokenCount: tokenCount)
      }
    }
    return estimates
  }
}
