import OTFoundation
import OTGraph

/// A sequence some of whose tokens are scored.
package struct ScoredSequence: Sendable, Hashable {
  /// All of its tokens. The last is scored and not run.
  package let tokenIDs: [Int]
  /// The index of the first token that is scored, at least 1 and less than their number.
  package let firstScored: Int

  /// A sequence.
  ///
  /// - Precondition: `1 ..< tokenIDs.count` contains `firstScored`.
  package init(_ tokenIDs: [Int], firstScored: Int) {
    precondition((1..<tokenIDs.count).contains(firstScored), "a token is scored after another")
    self.tokenIDs = tokenIDs
    self.firstScored = firstScored
  }
}

/// How likely a token is after those before it.
package struct TokenScore: Sendable, Hashable {
  /// ln p; terms of the softmax are float32, sums float64.
  package let logProbability: Double
  /// True when no token is likelier; of equals, the first is.
  package let isLikeliest: Bool
}

extension Engine {
  /// The value of the logits of a model that continues a text.
  ///
  /// - Throws: `Refusal` with rule `run-not-causal` or `run-output`.
  func causalLogits() throws -> Program.ValueID {
    let program = fused
    guard program.attentions.allSatisfy(\.attention.isCausal), !program.regions.contains(.sequences),
      !graph.countsPositions
    else {
      throw Refusal(
        "run-not-causal", "tokens of this model see those that follow: it does not continue a text",
        remedy: "use the embeddings that it gives")
    }
    guard let logits = program.outputs["logits"], !program.attentions.isEmpty else {
      throw Refusal("run-output", "the model gives no 'logits'")
    }
    return logits
  }

  /// Scores tokens of sequences.
  ///
  /// - Throws: as `Executor.scores`.
  func scores(of sequences: [ScoredSequence]) throws -> [[TokenScore]] {
    let logits = try causalLogits()
    for sequence in sequences {
      try Batch.check(Array(sequence.tokenIDs.dropLast()), firstPosition: 0, graph: graph)
      let width = fused.values[logits].channelCount
      if let index = sequence.tokenIDs.firstIndex(where: { !(0..<width).contains($0) }) {
        throw Refusal("run-token-id", "token \(index) is \(sequence.tokenIDs[index]), there are \(width) logits")
      }
    }
    let sharing = SharingBatch(sequences, limits: fused.rotaries.compactMap { $0.longContext?.length })
    guard !sequences.isEmpty else { return [] }
    let blockSize = min(sharing.batch.rowCount, tailBlockSize(of: fused))
    let workspace = try Workspace(
      fused, rowCapacity: sharing.batch.rowCount, tailCapacity: blockSize,
      sequenceCapacity: sharing.batch.segments.count, threadCount: pool.threadCount, attention: cacheForm)
    let cache = try KeyValueCache(fused.attentions, form: cacheForm, batch: sharing.batch)
    var scores = sequences.map { sequence in
      [TokenScore?](repeating: nil, count: sequence.tokenIDs.count - sequence.firstScored)
    }
    let width = fused.values[logits].channelCount
    try run(
      sharing.batch, in: workspace, cache: cache, tail: .ranges(sharing.scoredRanges, blockSize: blockSize)
    ) { rows in
      nonisolated(unsafe) let base = workspace.rows(of: logits)
      let targets = rows.map { sharing.targets[$0] ?? [] }
      let results = try mapBlocks(rows.count, threadCount: pool.threadCount) { index -> [TokenScore] in
        guard !targets[index].isEmpty else { return [] }
        let row = UnsafeBufferPointer(start: base + (rows.lowerBound + index) * width, count: width)
        let (total, best) = (row.logSumExp, argmax(row))
        guard total.isFinite, targets[index].allSatisfy({ row[$0.tokenID].isFinite }) else {
          throw Refusal("run-not-finite", "the model gives logits that are not finite")
        }
        return targets[index].map {
          TokenScore(logProbability: Double(row[$0.tokenID]) - total, isLikeliest: $0.tokenID == best)
        }
      }
      for (found, places) in zip(results, targets) {
        for (score, target) in zip(found, places) { scores[target.sequence][target.index] = score }
      }
    }
    return scores.map { scores in
      scores.map { score in
        guard let score else { preconditionFailure("every token that is scored has a row before it") }
        return score
      }
    }
  }
}

/// Sequences whose last tokens are not run, with the beginning that neighbours have in common run once.
private struct SharingBatch {
  /// A token that is scored.
  struct Target {
    /// The sequence that it is of, and its index among the scored ones.
    let sequence, index: Int
    let tokenID: Int
  }

  /// Copying keys of fewer tokens is not worth it.
  private static let leastPrefixCount = 8

  let batch: Batch
  /// The tokens whose likelihood a row tells.
  let targets: [Int: [Target]]

  /// - Parameter limits: lengths of sequences beyond which all keys are rotated otherwise.
  init(_ sequences: [ScoredSequence], limits: [Int]) {
    var parts: [Batch.Part] = []
    var targets: [Int: [Target]] = [:]
    var rowCount = 0
    // The whole sequence that those after it are compared with.
    var (head, headSegment, headRow) = ([Int](), 0, 0)
    for (number, sequence) in sequences.enumerated() {
      let tokenIDs = Array(sequence.tokenIDs.dropLast())
      var prefixCount = 0
      if limits.allSatisfy({ (head.count > $0) == (tokenIDs.count > $0) }) {
        let count = zip(head, tokenIDs).prefix { $0 == $1 }.count
        if count >= SharingBatch.leastPrefixCount || count == tokenIDs.count { prefixCount = count }
      }
      let firstRow = rowCount
      if prefixCount == 0 {
        (head, headSegment, headRow) = (tokenIDs, parts.count, firstRow)
        parts.append(Batch.Part(tokenIDs: tokenIDs, prefix: nil))
      } else if prefixCount < tokenIDs.count {
        parts.append(Batch.Part(tokenIDs: tokenIDs, prefix: (prefixCount, headSegment)))
      }
      rowCount += tokenIDs.count - prefixCount
      for index in sequence.firstScored..<sequence.tokenIDs.count {
        let position = index - 1
        let row = position < prefixCount ? headRow + position : firstRow + position - prefixCount
        targets[row, default: []].append(
          Target(sequence: number, index: index - sequence.firstScored, tokenID: sequence.tokenIDs[index]))
      }
    }
    batch = Batch(parts)
    self.targets = targets
  }

  /// The rows that score tokens, in their order.
  var scoredRanges: [Range<Int>] {
    var ranges: [Range<Int>] = []
    for row in targets.keys.sorted() {
      if let last = ranges.last, last.upperBound == row {
        ranges[ranges.count - 1] = last.lowerBound..<row + 1
      } else {
        ranges.append(row..<row + 1)
      }
    }
    return ranges
  }
}
