import OTFoundation
import OTGraph
import OTRuntime

/// The purpose of one pass over the samples.
package struct CalibrationPass: Sendable {
  /// The kinds to observe.
  package var kinds: Set<ObservationKind> = [.ranges]
  /// Producers of the sites that are observed; nil: all.
  package var sites: Set<String>?
  /// Values that are not computed, for each sample.
  package var given = KeptValues()
  /// Nodes whose values for all samples are returned, for a later pass that begins there.
  package var kept: [String] = []
  /// The file that these are kept in; nil: in memory.
  package var scratch: ScratchFile?

  /// A pass from the tokens on.
  package init(_ kinds: Set<ObservationKind> = [.ranges]) { self.kinds = kinds }

  /// The sites of `graph` that are observed.
  func observed(_ graph: Graph) -> [Site] {
    kinds.isEmpty ? [] : sites.map(graph.sites(producedBy:)) ?? graph.sites
  }

  /// The nodes that a run ends at: what follows, such as the output head, is not run.
  func ends(_ graph: Graph) -> [String] {
    let ends = graph.ends(among: Set(observed(graph).map(\.producer) + kept))
    return ends + kept.filter { !ends.contains($0) }
  }
}

/// Runs samples of tokens through a model and observes its sites.
package struct Calibrator: Sendable {
  /// Called with the tokens done and in all, also between; what it throws ends the run.
  package typealias Progress = (_ doneCount: Int, _ totalCount: Int) throws -> Void

  /// The ranges of the first samples of a pass, which an earlier process has observed, and what is done when more are.
  package struct Course {
    /// Samples that are observed already.
    package let sampleCount: Int
    /// Their ranges, of all together or of each, by the producer of the site.
    package let seen: [String: SiteObservations]
    /// Is given both after each batch but the last.
    package let keep: (_ sampleCount: Int, _ sites: [String: SiteObservations]) throws -> Void

    /// A course as given.
    package init(
      sampleCount: Int, seen: [String: SiteObservations],
      keep: @escaping (_ sampleCount: Int, _ sites: [String: SiteObservations]) throws -> Void
    ) {
      (self.sampleCount, self.seen, self.keep) = (sampleCount, seen, keep)
    }
  }

  /// The result of a pass.
  package struct Outcome: Sendable {
    /// The observations, by the producer of the site.
    package var sites: [String: SiteObservations]
    /// The values that were to be kept, for each sample that is not empty.
    package let values: KeptValues
  }

  /// Larger batches are not faster where parameters stay in memory.
  private static let cachedBatchTokenCount = 2048

  private let executor: any Executor
  private let parameterByteCount: Int?
  private let maximumByteCount: Int

  /// A calibrator that runs `executor`.
  ///
  /// Samples go through the model layer by layer, as many at a time as
  /// `maximumByteCount` has room for; at least one, or as many short ones as have 512 tokens.
  /// - Parameters:
  ///   - parameterByteCount: memory that the executor's cached parameters
  ///     take; nil: they are read again for every batch, which is then as large as it can be.
  ///   - maximumByteCount: memory for parameters, values and observers.
  package init(executor: any Executor, parameterByteCount: Int?, maximumByteCount: Int) {
    self.executor = executor
    self.parameterByteCount = parameterByteCount
    self.maximumByteCount = maximumByteCount
  }

  // MARK: Memory

  /// Memory in bytes that the smallest batch of samples of these lengths takes for its values, and the observers.
  ///
  /// - Throws: as executors throw.
  package static func leastByteCount(
    _ executor: any Executor, lengths: [Int], pass: CalibrationPass = CalibrationPass()
  ) throws -> Int {
    let blocks = TokenSequence.productBlocks(lengths: lengths)
    let tokenCount = blocks.map { lengths[$0].reduce(0, +) }.max() ?? 0
    return tokenCount.multipliedChecked(by: try bytesPerToken(executor, pass))?
      .addingChecked(keptByteCount(executor.graph, pass, lengths: lengths)) ?? .max
  }

  /// Memory in bytes that samples of these lengths take, for parameters, values and observers.
  ///
  /// - Throws: as executors throw.
  package func byteCount(lengths: [Int], pass: CalibrationPass = CalibrationPass()) throws -> Int {
    let tokenCount = try batches(lengths, pass).map { lengths[$0].reduce(0, +) }.max() ?? 0
    return tokenCount.multipliedChecked(by: try Calibrator.bytesPerToken(executor, pass))?
      .addingChecked(parameterByteCount ?? 0)?
      .addingChecked(Calibrator.keptByteCount(executor.graph, pass, lengths: lengths)) ?? .max
  }

  private static func bytesPerToken(_ executor: any Executor, _ pass: CalibrationPass) throws -> Int {
    let ends = pass.ends(executor.graph)
    return ends.isEmpty ? 0 : try executor.bytesPerToken(from: pass.given.nodes, until: ends)
  }

  /// Memory in use until the pass is over: for observers, and for values that are kept.
  private static func keptByteCount(_ graph: Graph, _ pass: CalibrationPass, lengths: [Int]) -> Int {
    let rowCount = lengths.reduce(0, +)
    let observers = pass.observed(graph).flatMap { site in
      pass.kinds.withoutSmaller.map { $0.byteCount(channelCount: site.size, lengths: lengths) }
    }
    let values = (pass.scratch == nil ? pass.kept : []).map { node in
      rowCount.multipliedChecked(by: graph.channelCount(of: node) ?? 0)?.multipliedChecked(by: 4) ?? .max
    }
    return (observers + values).reduce(pass.given.byteCount) { $0.addingChecked($1) ?? .max }
  }

  /// The groups of samples of these lengths that run together.
  private func batches(_ lengths: [Int], _ pass: CalibrationPass) throws -> [Range<Int>] {
    let kept = Calibrator.keptByteCount(executor.graph, pass, lengths: lengths)
    let taken = kept.addingChecked(parameterByteCount ?? 0) ?? .max
    let room = max(maximumByteCount - min(taken, maximumByteCount), 0)
    var limit = room / max(try Calibrator.bytesPerToken(executor, pass), 1)
    if parameterByteCount != nil { limit = min(limit, Calibrator.cachedBatchTokenCount) }
    var batches: [Range<Int>] = []
    var tokenCount = 0
    // Whole blocks: what is measured must not depend on the memory there is.
    for block in TokenSequence.productBlocks(lengths: lengths) {
      let count = lengths[block].reduce(0, +)
      if let last = batches.last, tokenCount + count <= limit {
        batches[batches.count - 1] = last.lowerBound..<block.upperBound
        tokenCount += count
      } else {
        batches.append(block)
        tokenCount = count
      }
    }
    return batches
  }

  // MARK: Running

  /// Runs the samples and gives what was observed on each site.
  ///
  /// - Parameters:
  ///   - samples: at most the model's context each; empty ones are left out.
  ///   - course: for a pass that observes ranges alone and keeps no values.
  /// - Throws: `Refusal` with rule `calibration-not-finite`, `calibration-no-sites`
  ///   or `calibration-empty`, or as executors throw.
  package func run(
    _ samples: [TokenSequence], pass: CalibrationPass = CalibrationPass(), course: Course? = nil,
    progress: Progress? = nil
  ) throws -> Outcome {
    precondition(
      course == nil || (pass.kinds == [.ranges] || pass.kinds == [.sampleRanges]) && pass.kept.isEmpty,
      "ranges alone are gone on with")
    let sites = pass.observed(executor.graph)
    guard !sites.isEmpty || !pass.kept.isEmpty else {
      throw Refusal("calibration-no-sites", "the model has no linears in blocks to calibrate")
    }
    let used = samples.indices.filter { !samples[$0].tokenIDs.isEmpty }
    guard !used.isEmpty else { throw Refusal("calibration-empty", "there are no tokens to calibrate on") }
    for node in pass.given.nodes where pass.given.sampleCount(of: node) != samples.count {
      throw Refusal(
        "run-given", "values are given for \(pass.given.sampleCount(of: node)) samples of \(samples.count)")
    }
    let sequences = used.map { samples[$0] }
    let lengths = sequences.map(\.tokenIDs.count)
    let observers = SiteObservers(
      sites, of: executor.graph, kinds: pass.kinds, lengths: lengths, seen: course?.seen ?? [:],
      threadCount: executor.threadCount)
    var values = KeptValues(in: pass.scratch)
    let totalCount = lengths.reduce(0, +)
    var doneCount = 0
    try progress?(0, totalCount)
    for batch in try batches(lengths, pass) {
      // Batches end where blocks of samples do, so that what is left of one is whole blocks, too.
      let batch = max(batch.lowerBound, min(course?.sampleCount ?? 0, batch.upperBound))..<batch.upperBound
      if batch.isEmpty {
        doneCount = lengths[..<batch.upperBound].reduce(0, +)
        continue
      }
      doneCount = lengths[..<batch.lowerBound].reduce(0, +)
      let observe: Executor.Observer? =
        sites.isEmpty
        ? nil
        : { value in
          try progress?(doneCount, totalCount)
          try observers.add(value, samples: batch)
        }
      let given = try pass.given.nodes.reduce(into: [String: [Matrix]]()) { given, node in
        given[node] = try used[batch].map { try pass.given.matrix(of: node, sample: $0) }
      }
      let results = try executor.run(
        Array(sequences[batch]), from: given, until: pass.ends(executor.graph), observe: observe)
      for node in pass.kept { for result in results { try values.append(result.output(node), of: node) } }
      doneCount += lengths[batch].reduce(0, +)
      try progress?(doneCount, totalCount)
      if let course, batch.upperBound < lengths.count {
        try course.keep(batch.upperBound, observers.observations)
      }
    }
    return Outcome(sites: observers.observations, values: values)
  }
}
