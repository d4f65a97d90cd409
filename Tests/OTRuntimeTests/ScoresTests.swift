import Foundation
import OTFoundation
import OTRuntime
import Testing
import _OTModelSupport
import _OTTestSupport

/// Likelihoods of tokens, with what sequences begin with run once.
@Suite struct ScoresTests {
  /// Sequences of a golden one that share beginnings of several lengths, in blocks of keys and across them.
  private func sequences(_ tokens: [Int]) -> [ScoredSequence] {
    let context = Array(tokens[..<37])
    return [
      ScoredSequence(context + tokens[37..<50], firstScored: 37),
      // Another continuation; one that begins as the first; one token, which needs no row of its own.
      ScoredSequence(context + tokens[60..<64], firstScored: 37),
      ScoredSequence(context + tokens[37..<41] + tokens[70..<80], firstScored: 37),
      ScoredSequence(context + [tokens[90]], firstScored: 37),
      // The same once more, scored from another token on.
      ScoredSequence(context + tokens[37..<50], firstScored: 20),
      // Few tokens in common, and none.
      ScoredSequence(Array(tokens[..<5]) + tokens[50..<55], firstScored: 2),
      ScoredSequence(Array(tokens[40..<73]), firstScored: 1),
      ScoredSequence(Array(tokens[40..<72]) + [tokens[3], tokens[4]], firstScored: 32),
    ]
  }

  /// ln p in double precision, of logits of the whole sequence.
  private func direct(_ sequence: ScoredSequence, _ executor: some Executor) throws -> [(Double, Bool)] {
    let logits = try executor.run(tokenIDs: sequence.tokenIDs).output("logits")
    return (sequence.firstScored..<sequence.tokenIDs.count).map { index in
      let row = logits[index - 1].map(Double.init)
      let greatest = row.max() ?? 0
      let total = greatest + log(row.reduce(0) { $0 + exp($1 - greatest) })
      let token = sequence.tokenIDs[index]
      return (row[token] - total, row.firstIndex(of: greatest) == token)
    }
  }

  private func check(_ executor: some Executor, tolerance: Double, isExact: Bool, _ sequences: [ScoredSequence]) throws
  {
    let scores = try executor.scores(of: sequences)
    #expect(scores.count == sequences.count)
    for (number, (sequence, found)) in zip(sequences, scores).enumerated() {
      let wanted = try direct(sequence, executor)
      #expect(found.count == wanted.count)
      for (score, other) in zip(found, wanted) {
        #expect(abs(score.logProbability - other.0) < tolerance, "sequence \(number)")
        if isExact { #expect(score.isLikeliest == other.1, "sequence \(number)") }
      }
      // Alone, nothing is shared.
      if isExact { #expect(try executor.scores(of: [sequence])[0] == found, "sequence \(number)") }
    }
  }

  /// Integer products: bit for bit what each sequence gives alone.
  @Test(arguments: Fixture.decoders, [true, false])
  func sharedBeginningsGiveWhatWholesGive(_ fixture: Fixture, _ isStatic: Bool) throws {
    let executor = try fixture.executor(isStatic ? .outlierTune : .perToken) { $0.embeddingBits = 8 }
    try check(executor, tolerance: 1e-5, isExact: true, sequences(fixture.goldenSequences()[0]))
  }

  @Test(arguments: Fixture.decoders)
  func quantizedAttention(_ fixture: Fixture) throws {
    let executor = try fixture.executor(.perToken, attentionBits: 8) { $0.embeddingBits = 8 }
    try check(executor, tolerance: 1e-5, isExact: true, sequences(fixture.goldenSequences()[1]))
  }

  /// In float the BLAS sums in another order, no more.
  @Test(arguments: Fixture.decoders)
  func floats(_ fixture: Fixture) throws {
    let executor = try fixture.floatExecutor()
    try check(executor, tolerance: 2e-4, isExact: false, sequences(fixture.goldenSequences()[0]))
  }

  @Test func refusals() throws {
    func rule(_ body: () throws -> Void) -> String? {
      do {
        try body()
        return nil
      } catch {
        return (error as? Refusal)?.rule
      }
    }
    let sequence = ScoredSequence([5, 6, 7], firstScored: 1)
    let bert = try Fixture.bert.floatExecutor()
    #expect(rule { _ = try bert.scores(of: [sequence]) } == "run-not-causal")
    let llama = try Fixture.llama.floatExecutor()
    #expect(rule { _ = try llama.scores(of: [ScoredSequence([5, 6, 2048], firstScored: 1)]) } == "run-token-id")
    #expect(rule { _ = try llama.scores(of: [ScoredSequence([-1, 6], firstScored: 1)]) } == "run-token-id")
    #expect(try llama.scores(of: []).isEmpty)
  }
}
