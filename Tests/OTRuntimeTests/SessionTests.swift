import OTFoundation
import OTGraph
import OTRuntime
import Testing
import _OTModelSupport
import _OTTestSupport

/// Sequences that grow against runs of the whole.
@Suite struct SessionTests {
  private func last(_ session: Session, _ tokens: some Collection<Int>) throws -> [Float] {
    try session.append(Array(tokens)) { Array($0) }
  }

  /// The largest difference; infinity where the counts differ.
  private func difference(_ a: [Float], _ b: ArraySlice<Float>) -> Float {
    guard a.count == b.count else { return .infinity }
    return zip(a, b).map { abs($0 - $1) }.max() ?? 0
  }

  /// Whatever the pieces, the logits are those of the whole sequence, bit for bit.
  @Test(arguments: Fixture.decoders, [true, false])
  func piecesGiveWhatTheWholeGives(_ fixture: Fixture, _ isStatic: Bool) throws {
    let executor = try fixture.executor(isStatic ? .outlierTune : .perToken) {
      $0.bits = 6
      $0.embeddingBits = 8
    }
    let tokens = try fixture.goldenSequences()[0]
    let whole = try executor.run(tokenIDs: tokens).output("logits")
    for pieces in [[96], [1, 95], [17, 1, 1, 30, 47], Array(repeating: 1, count: 40)] {
      let session = try executor.makeSession(tokenCapacity: 96)
      var start = 0
      for count in pieces {
        let logits = try last(session, tokens[start..<start + count])
        start += count
        #expect(difference(logits, whole[start - 1]) == 0, "\(pieces), after \(start) tokens")
        #expect(session.tokenCount() == start)
      }
    }
  }

  /// In float the BLAS sums in another order, no more.
  @Test(arguments: Fixture.decoders)
  func floatPieces(_ fixture: Fixture) throws {
    let executor = try fixture.floatExecutor()
    let tokens = try fixture.goldenSequences()[1]
    let whole = try executor.run(tokenIDs: tokens).output("logits")
    let session = try executor.makeSession(tokenCapacity: nil)
    _ = try last(session, tokens[..<50])
    for position in 50..<60 {
      let logits = try last(session, [tokens[position]])
      let range = try #require(logits.max()) - #require(logits.min())
      for (a, b) in zip(logits, whole[position]) { #expect(abs(a - b) < 1e-5 * range) }
    }
  }

  @Test func truncationForgets() throws {
    let fixture = Fixture.llama
    let executor = try fixture.executor(.outlierTune)
    let tokens = try fixture.goldenSequences()[0]
    let session = try executor.makeSession(tokenCapacity: 40)
    let first = try last(session, tokens[..<20])
    _ = try last(session, [7, 8, 9])
    session.truncate(to: 19)
    #expect(session.tokenCount() == 19)
    #expect(try difference(last(session, [tokens[19]]), first[...]) == 0)
    session.truncate(to: 30)
    #expect(session.tokenCount() == 20)
  }

  /// Sequences that grow together, each at its own pace, begun anew in between, against runs of each alone.
  @Test(arguments: Fixture.decoders, [nil, 8])
  func sequencesGrowTogether(_ fixture: Fixture, _ attentionBits: Int?) throws {
    let executor = try fixture.executor(.perToken, attentionBits: attentionBits) {
      $0.bits = 6
      $0.embeddingBits = 8
    }
    let tokens = try fixture.goldenSequences()[0]
    let session = try executor.makeSession(tokenCapacity: 60, sequenceCount: 4)
    var sequences = [[Int]](repeating: [], count: 4)
    // [sequence, tokens]: one in turn, several, some left out.
    let steps = [
      [(0, 7), (2, 1)], [(2, 1), (0, 1), (1, 33)], [(0, 1), (1, 1), (2, 1), (3, 1)], [(3, 20), (1, 1)],
      [(0, 1), (1, 1), (2, 1), (3, 1)],
    ]
    for (number, step) in steps.enumerated() {
      if number == 3 {
        session.truncate(1, to: 0)
        sequences[1] = []
      }
      var pieces: [Session.Piece] = []
      for (sequence, count) in step {
        let start = sequences[sequence].count + 5 * sequence
        pieces.append(Session.Piece(Array(tokens[start..<start + count]), of: sequence))
        sequences[sequence] += tokens[start..<start + count]
      }
      var seen: [Int] = []
      try session.append(pieces) { sequence, logits in
        seen.append(sequence)
        let whole = try executor.run(tokenIDs: sequences[sequence]).output("logits")
        #expect(
          difference(Array(logits), whole[whole.rowCount - 1]) == 0, "step \(number), sequence \(sequence)")
        #expect(session.tokenCount(of: sequence) == sequences[sequence].count)
      }
      #expect(seen == step.map(\.0))
    }
  }

  /// More tokens than go through the model at a time: pieces are cut where a run is full.
  @Test func longPiecesOfSeveral() throws {
    let executor = try Fixture.llama.executor(.perToken) { $0.embeddingBits = 8 }
    let size = try #require(executor.graph.vocabularySize)
    let sequences = [200, 250, 1, 240].enumerated().map { number, count in
      (0..<count).map { ($0 * 37 + number * 11) % size }
    }
    let session = try executor.makeSession(tokenCapacity: 251, sequenceCount: 4)
    for round in 0..<2 {
      var count = 0
      try session.append(
        sequences.enumerated().map { Session.Piece(round == 0 ? $1 : [3], of: $0) }
      ) { sequence, logits in
        let tokens = sequences[sequence] + (round == 0 ? [] : [3])
        let whole = try executor.run(tokenIDs: tokens).output("logits")
        #expect(difference(Array(logits), whole[tokens.count - 1]) == 0, "\(sequence)")
        count += 1
      }
      #expect(count == 4)
      try session.append([]) { _, _ in count += 1 }
      #expect(count == 4)
    }
  }

  @Test func refusals() throws {
    func rule(_ body: () throws -> Void) -> String? {
      do {
        try body()
        return nil
      } catch {
        return (error as? Refusal)?.rule ?? "\(error)"
      }
    }
    let fixture = Fixture.llama
    let executor = try fixture.executor(.perToken) { $0.embeddingBits = 8 }
    let session = try executor.makeSession(tokenCapacity: 4)
    #expect(rule { _ = try last(session, []) } == "run-empty")
    #expect(rule { _ = try last(session, [1, 2, 3, 4, 5]) } == "run-context")
    #expect(rule { _ = try last(session, [1, -1]) } == "run-token-id")
    #expect(rule { _ = try last(session, [1, Int.max]) } == "run-token-id")
    #expect(session.tokenCount() == 0)
    let tokens = [3, 5, 8]
    #expect(try difference(last(session, tokens), executor.run(tokenIDs: tokens).output("logits")[2]) == 0)
    #expect(rule { _ = try last(session, [1, 2]) } == "run-context")
    #expect(session.tokenCount() == 3)
    let context = try #require(executor.graph.contextLength)
    #expect(try executor.makeSession(tokenCapacity: context + 1000).tokenCapacity == context)
  }

  // MARK: Batches

  /// Sequences of a batch do not see each other.
  @Test(arguments: Fixture.decoders)
  func batchesGiveWhatSequencesGive(_ fixture: Fixture) throws {
    let executor = try fixture.executor(.outlierTune) {
      $0.bits = 6
      $0.embeddingBits = 8
    }
    let tokens = try fixture.goldenSequences()[0]
    let sequences = [tokens[..<33], tokens[40..<41], tokens[10..<80], tokens[50..<66]].map { TokenSequence(Array($0)) }
    let results = try executor.run(sequences, observe: nil)
    #expect(results.count == sequences.count)
    for (sequence, result) in zip(sequences, results) {
      let alone = try executor.run([sequence], observe: nil)[0]
      #expect(try difference(result.output("logits").values, alone.output("logits").values[...]) == 0)
    }
  }

  @Test func observersSeeAllSequences() throws {
    let fixture = Fixture.opt
    let executor = try fixture.floatExecutor()
    let sequences = [[5, 6, 7], [9], [11, 12]].map { TokenSequence($0) }
    var together: [String: [Float]] = [:]
    _ = try executor.run(sequences) { value in
      #expect(value.rowCount == 6 && value.values.count == value.rowCount * value.channelCount)
      together[value.name] = Array(value.values)
    }
    var alone: [String: [Float]] = [:]
    for sequence in sequences {
      _ = try executor.run([sequence]) { alone[$0.name, default: []] += $0.values }
    }
    #expect(together.keys == alone.keys && together.count > 20)
    for (name, values) in together {
      let other = try #require(alone[name])
      for (a, b) in zip(values, other) { #expect(abs(a - b) <= 1e-4 * max(1, abs(b)), "\(name)") }
    }
  }

  @Test func noSequencesGiveNoResults() throws {
    #expect(try Fixture.opt.floatExecutor().run([], observe: nil).isEmpty)
  }
}
