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

  init(_ engine: Engine, tokenCapacity: Int?) throws {
    let program = engine.fused
    guard program.attentions.allSatisfy(\.attention.isCausal), !program.regions.contains(.sequences) else {
      throw Refusal(
        "run-not-causal", "tokens of this model see those that follow: it does not continue a text",
        remedy: "use the embeddings that it gives")
    }
    guard let logits = program.outputs["logits"], !program.attentions.isEmpty else {
      throw Refusal("run-output", "the model gives no 'logits'")
    }
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
    self.engine = engine
    self.logits = logits
  }

  /// Reads more tokens.
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
    let start = tokenCount
    do {
      for first in stride(from: 0, to: tokenIDs.count, by: workspace.rowCapacity) {
        let end = min(first + workspace.rowCapacity, tokenIDs.count)
        batch.replace(with: tokenIDs[first..<end], firstPosition: start + first)
        try engine.run(
          batch, in: workspace, cache: cache, tail: end == tokenIDs.count ? .last : .none, finished: { _ in })
        tokenCount = start + end
      }
    } catch {
      tokenCount = start
      throw error
    }
    let width = workspace.program.values[logits].channelCount
    let row = workspace.rows(of: logits) + workspace.tailOrigin * width
    return try body(UnsafeBufferPointer(start: row, count: width))
  }

  /// Forgets the tokens after the first `tokenCount`.
  package func truncate(to tokenCount: Int) { self.tokenCount = max(0, min(tokenCount, self.tokenCount)) }
}
