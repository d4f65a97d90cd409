import OTFoundation
import OTGraph

/// Sequences that grow: the keys and values of their tokens are kept, so that each token is
/// run once, and tokens of several sequences together: every parameter is read once for all of them.
///
/// Reading tokens in pieces gives the results of reading them at once, and a sequence those that it has alone: of
/// integer products bit for bit, of float ones but for rounding. Not for use by two threads at a time.
package final class Session {
  /// Tokens that go through the model together when many are read.
  static let batchRowCount = 512

  /// The next tokens of a sequence.
  package struct Piece {
    /// The number of the sequence, from 0.
    package let sequence: Int
    /// Its next tokens.
    package let tokenIDs: [Int]

    /// A piece.
    package init(_ tokenIDs: [Int], of sequence: Int) { (self.sequence, self.tokenIDs) = (sequence, tokenIDs) }
  }

  /// How many sequences it holds.
  package var sequenceCount: Int { growths.count }
  /// The most tokens that each can have.
  package let tokenCapacity: Int

  /// Bytes that the keys and values of a token take.
  package var bytesPerToken: Int { KeyValueCache.bytesPerToken(workspace.program.attentions, engine.cacheForm) }

  /// A sequence as far as it has been read.
  private struct Growth {
    /// Tokens read so far.
    var count = 0
    /// Those, and behind them some that are forgotten, or not read yet.
    var tokens: [Int] = []
    /// The length of the sequence for which the keys are rotated that are kept; nil: not all for the same.
    var rotatedLength: Int?
  }

  /// Tokens that have come and are to be run.
  private struct Waiting {
    let sequence: Int
    /// The first that has to be run, by its index in the sequence.
    var first: Int
  }

  private let engine: Engine
  private let workspace: Workspace
  private let cache: KeyValueCache
  private let logits: Program.ValueID
  private var growths: [Growth]
  private var waiting: [Waiting] = []
  // What one run takes; kept, since decoding a token allocates nothing.
  private var batch = Batch()
  /// Rows that are the last of their pieces, in their order: neighbours in one range.
  private var lastRows: [Range<Int>] = []
  /// Their sequences.
  private var lastSequences: [Int] = []
  /// Lengths of sequences beyond which all keys are rotated otherwise.
  private let rotationLimits: [Int]

  init(_ engine: Engine, tokenCapacity: Int?, sequenceCount: Int) throws {
    let program = engine.fused
    let logits = try engine.causalLogits()
    let limit = engine.graph.contextLength
    let capacity = min(tokenCapacity ?? limit ?? 4096, limit ?? .max)
    self.tokenCapacity = capacity
    let count = max(1, sequenceCount)
    let (most, overflow) = capacity.multipliedReportingOverflow(by: count)
    workspace = try Workspace(
      program, rowCapacity: max(1, min(Session.batchRowCount, overflow ? .max : most)),
      tailCapacity: min(count, engine.tailBlockSize(of: program)), sequenceCapacity: count,
      threadCount: engine.pool.threadCount, attention: engine.cacheForm)
    for index in workspace.rotaryTables.indices {
      workspace.rotaryTables[index].reserve(positionCount: capacity)
    }
    cache = try KeyValueCache(
      program.attentions, form: engine.cacheForm, tokenCapacity: capacity, sequenceCount: count)
    rotationLimits = program.rotaries.compactMap { $0.longContext?.length }
    growths = (0..<count).map { _ in
      var growth = Growth()
      growth.tokens.reserveCapacity(capacity)
      return growth
    }
    self.engine = engine
    self.logits = logits
  }

  /// Tokens of a sequence read so far.
  package func tokenCount(of sequence: Int = 0) -> Int { growths[sequence].count }

  /// Reads more tokens of the first sequence.
  ///
  /// - Parameter body: is given the logits of the last of them, `[vocabulary]`; the memory is the session's.
  /// - Throws: as `append(_:_:)` for several.
  package func append<Result>(
    _ tokenIDs: [Int], _ body: (UnsafeBufferPointer<Float>) throws -> Result
  ) throws -> Result {
    waiting.removeAll(keepingCapacity: true)
    try add(tokenIDs, to: 0)
    var result: Result?
    try runWaiting { _, logits in result = try body(logits) }
    guard let result else { preconditionFailure("the last token of a piece has logits") }
    return result
  }

  /// Reads more tokens of several sequences, 512 tokens of all at a time. Where one becomes longer than the length at which
  /// a model changes its rotation (LongRoPE), all of its tokens are run once more.
  ///
  /// - Parameters:
  ///   - pieces: at most one of a sequence.
  ///   - body: is given each sequence and the logits of the last token of its piece, `[vocabulary]`, in the order of
  ///     `pieces`; the memory is the session's.
  /// - Throws: `Refusal` with rule `run-empty`, `run-context` when they are more than the model or the session can hold,
  ///   `run-token-id`; or what `body` throws. Of refused tokens none has been read, and none of those whose `body` has
  ///   not been called.
  package func append(
    _ pieces: [Piece], _ body: (_ sequence: Int, _ logits: UnsafeBufferPointer<Float>) throws -> Void
  ) throws {
    waiting.removeAll(keepingCapacity: true)
    for piece in pieces { try add(piece.tokenIDs, to: piece.sequence) }
    try runWaiting(body)
  }

  private func add(_ tokenIDs: [Int], to sequence: Int) throws {
    precondition(waiting.allSatisfy { $0.sequence != sequence }, "a sequence has one piece at a time")
    let count = growths[sequence].count
    try Batch.check(tokenIDs, firstPosition: count, graph: engine.graph)
    guard tokenIDs.count <= tokenCapacity - count else {
      throw Refusal(
        "run-context", "\(count + tokenIDs.count) tokens are more than the \(tokenCapacity) of this session")
    }
    growths[sequence].tokens.removeLast(growths[sequence].tokens.count - count)
    growths[sequence].tokens += tokenIDs
    waiting.append(Waiting(sequence: sequence, first: isRotated(growths[sequence]) ? count : 0))
  }

  /// True when the keys that are kept are rotated as those of the sequence with the tokens that have come.
  private func isRotated(_ growth: Growth) -> Bool {
    rotationLimits.allSatisfy { limit in
      growth.rotatedLength.map { ($0 > limit) == (growth.tokens.count > limit) } ?? false
    }
  }

  private func runWaiting(_ body: (_ sequence: Int, _ logits: UnsafeBufferPointer<Float>) throws -> Void) throws {
    startBatch()
    for piece in waiting {
      let length = growths[piece.sequence].tokens.count
      growths[piece.sequence].rotatedLength = nil
      var first = piece.first
      while first < length {
        if batch.rowCount == workspace.rowCapacity { try runBatch(body) }
        let end = min(first + workspace.rowCapacity - batch.rowCount, length)
        batch.append(
          growths[piece.sequence].tokens[first..<end], firstPosition: first, sequenceLength: length,
          place: piece.sequence)
        first = end
      }
      endPiece(of: piece.sequence)
    }
    try runBatch(body)
  }

  private func startBatch() {
    batch.removeAll()
    lastRows.removeAll(keepingCapacity: true)
    lastSequences.removeAll(keepingCapacity: true)
  }

  /// Notes that the batch's last row is the last of a piece.
  private func endPiece(of sequence: Int) {
    let row = batch.rowCount - 1
    if let last = lastRows.last, last.upperBound == row {
      lastRows[lastRows.count - 1] = last.lowerBound..<row + 1
    } else {
      lastRows.append(row..<row + 1)
    }
    lastSequences.append(sequence)
  }

  private func runBatch(_ body: (_ sequence: Int, _ logits: UnsafeBufferPointer<Float>) throws -> Void) throws {
    guard batch.rowCount > 0 else { return }
    let width = workspace.program.values[logits].channelCount
    var done = 0
    try engine.run(
      batch, in: workspace, cache: cache, tail: .ranges(lastRows, blockSize: workspace.tailCapacity)
    ) { rows in
      for row in rows {
        let sequence = lastSequences[done]
        done += 1
        growths[sequence].count = growths[sequence].tokens.count
        growths[sequence].rotatedLength = growths[sequence].count
        try body(
          sequence, UnsafeBufferPointer(start: workspace.rows(of: logits) + row * width, count: width))
      }
    }
    startBatch()
  }

  /// Forgets the tokens of a sequence after the first `tokenCount`.
  package func truncate(_ sequence: Int = 0, to tokenCount: Int) {
    growths[sequence].count = max(0, min(tokenCount, growths[sequence].count))
  }
}
