import OTFoundation
import OTGraph
import OTRuntime

/// Runs samples of tokens through a model and measures its sites.
package struct Calibrator: Sendable {
  /// Called with the tokens done and in all.
  package typealias Progress = (_ doneCount: Int, _ totalCount: Int) -> Void

  /// Larger batches are not faster where parameters stay in memory.
  private static let cachedBatchTokenCount = 2048

  private let executor: any Executor
  private let bytesPerToken: Int
  private let parameterByteCount: Int
  private let batchTokenCount: Int

  /// A calibrator that runs `executor`, which should be a float one.
  ///
  /// Samples go through the model layer by layer, as many at a time as
  /// `maximumByteCount` has room for; at least one, or as many short ones as have 512 tokens.
  /// - Parameters:
  ///   - parameterByteCount: memory that the executor's cached parameters
  ///     take; nil: they are read again for every batch, which is then as large as it can be.
  ///   - maximumByteCount: memory for parameters and values.
  /// - Throws: as executors throw.
  package init(executor: any Executor, parameterByteCount: Int?, maximumByteCount: Int) throws {
    self.executor = executor
    bytesPerToken = try Calibrator.bytesPerToken(executor)
    self.parameterByteCount = parameterByteCount ?? 0
    let room = max(maximumByteCount - self.parameterByteCount, 0)
    let tokenCount = room / max(bytesPerToken, 1)
    batchTokenCount = parameterByteCount == nil ? tokenCount : min(tokenCount, Calibrator.cachedBatchTokenCount)
  }

  /// Memory in bytes that the smallest batch of samples of these lengths takes for its values.
  ///
  /// - Throws: as executors throw.
  package static func leastByteCount(_ executor: any Executor, lengths: [Int]) throws -> Int {
    let blocks = TokenSequence.productBlocks(lengths: lengths)
    let tokenCount = blocks.map { lengths[$0].reduce(0, +) }.max() ?? 0
    return tokenCount.multipliedChecked(by: try bytesPerToken(executor)) ?? .max
  }

  /// The nodes that a run ends at: what follows the last site, such as the output head, is not run.
  private static func ends(_ graph: Graph) -> [String] { graph.ends(among: Set(graph.sites.map(\.producer))) }

  private static func bytesPerToken(_ executor: any Executor) throws -> Int {
    let ends = ends(executor.graph)
    return ends.isEmpty ? 0 : try executor.bytesPerToken(from: [], until: ends)
  }

  /// Memory in bytes that samples of these lengths take, for parameters and values.
  package func byteCount(lengths: [Int]) -> Int {
    let tokenCount = batches(lengths).map { lengths[$0].reduce(0, +) }.max() ?? 0
    return tokenCount.multipliedChecked(by: bytesPerToken)?.addingChecked(parameterByteCount) ?? .max
  }

  /// Runs the samples and gives what was measured on each site, by producer.
  ///
  /// - Parameter samples: token IDs, at most the model's context each.
  /// - Throws: `Refusal` with rule `calibration-not-finite`, `calibration-no-sites`
  ///   or `calibration-empty`, or as executors throw.
  package func run(_ samples: [[Int]], progress: Progress? = nil) throws -> [String: SiteRange] {
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
    let samples = samples.filter { !$0.isEmpty }
    for range in batches(samples.map(\.count)) {
      let batch = Array(samples[range])
      try observe(batch, observer)
      doneCount += batch.reduce(0) { $0 + $1.count }
      progress?(doneCount, totalCount)
    }
    return observer.sites
  }

  /// Which samples of these lengths run together.
  private func batches(_ lengths: [Int]) -> [Range<Int>] {
    var batches: [Range<Int>] = []
    var tokenCount = 0
    // Whole blocks: what is measured must not depend on the memory there is.
    for block in TokenSequence.productBlocks(lengths: lengths) {
      let count = lengths[block].reduce(0, +)
      if let last = batches.last, tokenCount + count <= batchTokenCount {
        batches[batches.count - 1] = last.lowerBound..<block.upperBound
        tokenCount += count
      } else {
        batches.append(block)
        tokenCount = count
      }
    }
    return batches
  }

  /// Runs a batch up to the last site.
  private func observe(_ batch: [[Int]], _ observer: RangeObserver) throws {
    let lengths = batch.map(\.count)
    _ = try executor.run(
      batch.map { TokenSequence($0) }, from: [:], until: Calibrator.ends(executor.graph)
    ) { try observer.add($0, lengths: lengths) }
  }
}
