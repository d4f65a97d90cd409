import OTFoundation
import OTGraph
import Synchronization

/// The time that stages of one kind took.
package struct StageTime: Sendable, Hashable {
  /// The arithmetic that most of the time goes into.
  package enum Work: Sendable, Hashable {
    /// Products of integer codes, so many to each weight: three where activations are three digits.
    case codes(perWeight: Int)
    /// Products of floats.
    case floats
    /// Steps that go row by row, as fast as memory or caches give the rows.
    case rows
  }

  /// The stage in words: the linears of a product, the steps of a chain.
  package let name: String
  /// Its arithmetic.
  package let work: Work
  /// Seconds of all runs.
  package var seconds = 0.0
  /// Runs.
  package var count = 0
  /// Multiplications and additions of products, two for each weight or channel and row.
  package var operations = 0.0
}

/// Adds up the time of stages, where somebody wants to know.
package final class StageTimer: Sendable {
  private let isOn = Atomic(false)
  private let times = Lock<[String: StageTime]>([:])

  init() {}

  /// Runs `body` and tells what the stages took meanwhile, the longest first.
  ///
  /// - Throws: what `body` throws.
  package func times(of body: () throws -> Void) rethrows -> [StageTime] {
    times.withLock { $0 = [:] }
    isOn.store(true, ordering: .relaxed)
    defer { isOn.store(false, ordering: .relaxed) }
    try body()
    return times.withLock { $0.values.sorted { $0.seconds > $1.seconds } }
  }

  /// Runs a stage for some rows on all threads, on the clock where it is on.
  func run(_ stage: any Stage, _ pass: Pass, rows: Range<Int>) throws {
    try run(stage, pass, rowCount: rows.count, threadCount: 1, runCount: 1) { try stage.run(pass, rows: rows) }
  }

  /// Runs a stage for the rows of a block on one thread, while others are busy with other rows; all blocks are one run.
  func run(_ stage: any RowwiseStage, _ pass: Pass, _ block: RowBlock, isFirst: Bool) throws {
    try run(
      stage, pass, rowCount: block.rows.count, threadCount: pass.engine.pool.threadCount, runCount: isFirst ? 1 : 0
    ) {
      try stage.run(pass, in: block)
    }
  }

  private func run(
    _ stage: any Stage, _ pass: Pass, rowCount: Int, threadCount: Int, runCount: Int, _ body: () throws -> Void
  ) rethrows {
    guard isOn.load(ordering: .relaxed) else { return try body() }
    let start = ContinuousClock.now
    try body()
    let seconds = (ContinuousClock.now - start) / .seconds(1) / Double(threadCount)
    let time = StageTimer.time(of: stage, pass, rowCount: rowCount)
    times.withLock { times in
      var sum = times[time.name] ?? StageTime(name: time.name, work: time.work)
      sum.seconds += seconds
      sum.count += runCount
      sum.operations += time.operations
      times[time.name] = sum
    }
  }

  /// What a stage does for so many rows, in no time.
  private static func time(of stage: any Stage, _ pass: Pass, rowCount: Int) -> StageTime {
    switch stage {
    case let stage as ProductStage:
      var digitCount = 0
      var weightCount = 0
      for product in stage.products {
        weightCount += product.linear.inFeatures * product.linear.outFeatures
        if case .packed(_, let id, _) = product.weights {
          digitCount = pass.program.quantizedValues[id].quantization.limbCount
        }
      }
      let labels = stage.products.map { product in
        // `model.layers.0.mlp.up_proj.weight` is an `up_proj`.
        product.linear.weight.name.split(separator: ".").dropLast().last.map(String.init) ?? product.linear.weight.name
      }
      return StageTime(
        name: labels.joined(separator: ", "), work: digitCount > 0 ? .codes(perWeight: digitCount) : .floats,
        operations: 2 * Double(rowCount) * Double(weightCount))
    case let stage as AttentionStage:
      let attention = stage.attention
      // Products with keys and with values, of each query with the keys that it sees.
      let pairs = zip(pass.batch.positions, pass.batch.sequenceLengths).reduce(0.0) { sum, token in
        let (position, length) = token
        let seen = attention.isCausal ? position + 1 : length
        return sum + Double(min(seen, attention.window ?? seen))
      }
      return StageTime(
        name: "attention", work: .floats,
        operations: 4 * pairs * Double(attention.headCount) * Double(attention.headSize))
    case let stage as RowChain:
      return StageTime(name: stage.steps.map { label($0, "Step") }.joined(separator: ", "), work: .rows)
    default:
      return StageTime(name: label(stage, "Stage"), work: .rows)
    }
  }

  /// `NormStep` is a `norm`.
  private static func label(_ part: AnyObject, _ suffix: String) -> String {
    let name = String(describing: type(of: part))
    return (name.hasSuffix(suffix) ? String(name.dropLast(suffix.count)) : name).lowercased()
  }
}
