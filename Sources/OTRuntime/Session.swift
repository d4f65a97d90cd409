import OTFoundation
import OTGraph

/// A sequence that grows: the keys and values of its tokens are kept, so that each token is
/// run once.
///
/// Reading tokens in pieces gives the results of reading them at once. Not for
/// use by two threads at a time.
package final class Session {
  /// Tokens that go through the model together when many are read.
  static let batchRowCount = 512

  /// Tokens read so far.
  package private(set) var tokenCount = 0
  /// The most tokens that it can hold.
  package let tokenCapacity: Int

  /// Bytes that the keys and values of a token take.
  package var bytesPerToken: Int { KeyValueCache.bytesPerToken(workspace.program.attentions, engine.cacheForm) }

  private let engine: Engine
  private let workspace: Workspace
  private let cache: KeyValueCache
  private let logits: Program.ValueID
  private var batch = Batch()
  /// The tokens read so far, and behind them some that are forgotten.
  private var tokens: [Int] = []
  /// Lengths of sequences beyond which all keys are rotated otherwise.
  private let rotationLimits: [Int]
  /// The length of the sequence for which the keys are rotated that are kept; nil: not all for the same.
  private var rotatedLength: Int?

  init(_ engine: Engine, tokenCapacity: Int?) throws {
    let program = engine.fused
    let logits = try engine.causalLogits()
    let limit = engine.graph.contextLength
    self.tokenCapacity = min(tokenCapacity ?? limit ?? 4096, limit ?? .max)
    let rowCount = max(1, min(Session.batchRowCount, self.tokenCapacity))
    workspace = try Workspace(
      program, rowCapacity: rowCount, tailCapacity: 1, sequenceCapacity: 1, threadCount: engine.pool.threadCount,
      attention: engine.cacheForm)
    for index in workspace.rotaryTables.indices {
      workspace.rotaryTables[index].reserve(positionCount: self.tokenCapacity)
    }
    cache = try KeyValueCache(program.attentions, form: engine.cacheForm, tokenCapacity: self.tokenCapacity)
    rotationLimits = program.rotaries.compactMap { $0.longContext?.length }
    tokens.reserveCapacity(self.tokenCapacity)
    self.engine = engine
    self.logits = logits
  }

  /// True when the keys that are kept are rotated as those of a sequence of `length` tokens.
  private func isRotated(for length: Int) -> Bool {
    rotationLimits.allSatisfy { limit in rotatedLength.map { ($0 > limit) == (length > limit) } ?? false }
  }

  /// Reads more tokens. Where the sequence becomes longer than the length at which a model changes its
  /// rotation (LongRoPE), all are run once more.
  ///
  /// - Parameter body: is given the logits of the last of them, `[vocabulary]`;
  ///   the memory is the session's.
  /// - Throws: `Refusal` with rule `run-empty`, `run-context` when they are more
  ///   than the model or the session can hold, `run-token-id`; or what `body`
  ///   throws. Of refused tokens none has been read.
  package func append<Result>(
    _ tokenIDs: [Int], _ body: (UnsafeBufferPointer<Float>) throws -> Result
  ) throws -> Result {
    try Batch.check(tokenIDs, firstPosition: tokenCount, graph: engine.graph)
    guard tokenIDs.count <= tokenCapacity - tokenCount else {
      throw Refusal(
        "run-context", "\(tokenCount + tokenIDs.count) tokens are more than the \(tokenCapacity) of this session")
    }
    tokens.removeLast(tokens.count - tokenCount)
    tokens += tokenIDs
    let isRotated = isRotated(for: tokens.count)
    rotatedLength = nil
    for first in stride(from: isRotated ? tokenCount : 0, to: tokens.count, by: workspace.rowCapacity) {
      let end = min(first + workspace.rowCapacity, tokens.count)
      batch.replace(with: tokens[first..<end], firstPosition: first, sequenceLength: tokens.count)
      try engine.run(batch, in: workspace, cache: cache, tail: end == tokens.count ? .last : .none, finished: { _ in })
    }
    tokenCount = tokens.count
    rotatedLength = tokenCount
    let width = workspace.program.values[logits].channelCount
    let row = workspace.rows(of: logits) + workspace.tailOrigin * width
    return try body(UnsafeBufferPointer(start: row, count: width))
  }

  /// Forgets the tokens after the first `tokenCount`.
  package func truncate(to tokenCount: Int) { self.tokenCount = max(0, min(tokenCount, self.tokenCount)) }
}
