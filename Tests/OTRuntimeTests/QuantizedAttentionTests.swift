import OTFoundation
import OTGraph
import OTRuntime
import Testing
import _OTModelSupport
import _OTTestSupport

/// Models whose attention multiplies integers.
@Suite struct QuantizedAttentionTests {
  /// Queries, keys and values of 8 bits cost a little, of 4 bits more.
  @Test(arguments: Fixture.decoders)
  func quantizedAttention(_ fixture: Fixture) throws {
    let file = try fixture.simulated(.outlierTune)
    let graph = try #require(file.graph)
    func perplexity(_ bits: Int?) throws -> Double {
      try fixture.perplexity(
        of: QuantizedExecutor(graph: graph, container: file.container, threadCount: 2, attentionBits: bits))
    }
    let float = try perplexity(nil)
    let eight = try perplexity(8)
    let four = try perplexity(4)
    #expect(eight != float && abs(eight / float - 1) < 0.01, "\(float) \(eight)")
    #expect(four > eight && four < 2 * float, "\(eight) \(four)")
  }

  private func last(_ session: Session, _ tokens: some Collection<Int>) throws -> [Float] {
    try session.append(Array(tokens)) { Array($0) }
  }

  /// Whatever the pieces, and whatever was read and forgotten between, the logits
  /// are those of the whole sequence, bit for bit.
  @Test(arguments: Fixture.decoders)
  func sessions(_ fixture: Fixture) throws {
    let executor = try fixture.executor(.perToken, attentionBits: 8) { $0.embeddingBits = 8 }
    var generator = SeededGenerator()
    let tokens = Array(try fixture.goldens().integers("test_ids")[..<256])
    let whole = try executor.run(tokenIDs: tokens).output("logits")
    let session = try executor.makeSession(tokenCapacity: 256)
    while session.tokenCount() < 256 {
      let start = session.tokenCount()
      let end = min(256, start + Int.random(in: 1...60, using: &generator))
      let logits = try last(session, tokens[start..<end])
      #expect(logits == Array(whole[end - 1]), "seed \(generator.seed), tokens \(start) ..< \(end)")
      if Bool.random(using: &generator) {
        // Other tokens take the places of those that come next.
        if end < 250 { _ = try last(session, [5, 6, 7]) }
        session.truncate(to: Int.random(in: max(0, end - 10)...end, using: &generator))
      }
    }
  }

  /// A quarter of the memory, and two scales for each attention.
  @Test func memory() throws {
    let fixture = Fixture.llama
    let float = try fixture.executor(.perToken).makeSession(tokenCapacity: 10)
    let codes = try fixture.executor(.perToken, attentionBits: 8).makeSession(tokenCapacity: 10)
    // 4 attentions, 2 heads of keys and of values, 32 channels.
    #expect(float.bytesPerToken == 4 * 2 * 2 * 32 * 4)
    #expect(codes.bytesPerToken == 4 * (2 * 2 * 32 + 2 * 4))
  }

  /// Sequences of a batch do not see each other.
  @Test(arguments: Fixture.allCases)
  func batches(_ fixture: Fixture) throws {
    let executor = try fixture.executor(.perToken, attentionBits: 6) { $0.embeddingBits = 8 }
    let sequences = [33, 1, 150, 16].map { count in TokenSequence((0..<count).map { $0 * 31 % 500 + 5 }) }
    let results = try executor.run(sequences, observe: nil)
    for (sequence, result) in zip(sequences, results) {
      let alone = try executor.run([sequence], observe: nil)[0]
      for (name, matrix) in alone.outputs { #expect(try result.output(name).values == matrix.values) }
    }
  }

  /// Tokens that are masked have the influence of tokens that are not there: none.
  @Test func masks() throws {
    let fixture = Fixture.bert
    let executor = try fixture.executor(.perToken, attentionBits: 8) { $0.embeddingBits = 8 }
    let tokens = (0..<150).map { $0 * 31 % 500 + 5 }
    for count in [1, 40, 140] {
      let short = try executor.run(tokenIDs: Array(tokens[..<count])).output("hidden")
      let masked = try executor.run(tokenIDs: tokens, attentionMask: (0..<150).map { $0 < count }).output("hidden")
      for row in 0..<count { #expect(Array(short[row]) == Array(masked[row]), "\(count) tokens, row \(row)") }
    }
  }
}
