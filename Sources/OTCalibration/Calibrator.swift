import OTGraph
import OTRuntime
import OTTensor

/// Runs samples of tokens through a model and measures its sites.
public struct Calibrator: Sendable {
  /// Called with the tokens done and in all.
  public typealias Progress = (_ doneCount: Int, _ totalCount: Int) -> Void

  /// Larger batches are not faster where parameters stay in memory.
  private static let cachedBatchTokenCount = 2048

  private let executor: any Executor
  private let batchTokenCount: Int

  /// A calibrator that runs `executor`, which should be a float one.
  ///
  /// Samples go through the model layer by layer, as many at a time as
  /// `maximumByteCount` has room for; at least one, or as many short ones as have 512 tokens.
  /// - Parameters:
  ///   - parameterByteCount: memory that the executor's cached parameters
  ///     take; nil: they are read again for every batch, which is then as large as it can be.
  ///   - maximumByteCount: memory for parameters and values.
  public init(executor: any Executor, parameterByteCount: Int?, maximumByteCount: Int) {
    self.executor = executor
    let room = max(maximumByteCount - (parameterByteCount ?? 0), 0)
    let tokenCount = room / max(executor.bytesPerToken, 1)
    batchTokenCount = parameterByteCount == nil ? tokenCount : min(tokenCount, Calibrator.cachedBatchTokenCount)
  }

  /// Runs the samples and gives what was measured on each site, by producer.
  ///
  /// - Parameter samples: token IDs, at most the model's context each.
  /// - Throws: `Refusal` with rule `calibration-not-finite`, `calibration-no-sites`
  ///   or `calibration-empty`, or as executors throw.
  public func run(_ samples: [[Int]], progress: Progress? = nil) throws -> [String: SiteRange] {
    guard !executor.graph.sites.isEmpty else {
      throw Refusal("calibration-no-sites", "the model has no linears in blocks to calibrate")
    }
    guard samples.contains(where: { !$0.isEmpty }) else {
      throw Refusal("calibration-empty", "there are no tokens to calibrate on")
    }
    let observer = RangeObserver(executor.graph)
    let totalCount = samples.reduce(0) { $0 + $1.count }
    var doneCount = 0
    progress?(0, totalCount)
    for batch in batches(samples) {
      try observe(batch, observer)
      doneCount += batch.reduce(0) { $0 + $1.count }
      progress?(doneCount, totalCount)
    }
    return observer.sites
  }

  private func batches(_ samples: [[Int]]) -> [[[Int]]] {
    var batches: [[[Int]]] = []
    var tokenCount = 0
    let samples = samples.filter { !$0.isEmpty }
    // Whole blocks: what is measured must not depend on the memory there is.
    for block in TokenSequence.productBlocks(lengths: samples.map(\.count)) {
      let count = samples[block].reduce(0) { $0 + $1.count }
      if batches.isEmpty || tokenCount + count > batchTokenCount {
        batches.append([])
        tokenCount = 0
      }
      batches[batches.count - 1] += samples[block]
      tokenCount += count
    }
    return batches
  }

  /// Runs a batch up to the last site.
  private func observe(_ batch: [[Int]], _ observer: RangeObserver) throws {
    let lengths = batch.map(\.count)
    do {
      _ = try executor.run(batch.map { TokenSequence($0) }) { node, values, _, channelCount in
        try observer.add(node, values, channelCount: channelCount, lengths: lengths)
      }
    } catch is RangeObserver.LastSiteSeen {}
  }
}
