import Foundation
import OTFoundation
import OTRuntime
import Testing
import _OTTestSupport

@Suite struct TokenLikelihoodTests {
  private static func random(
    _ rowCount: Int, _ channelCount: Int, _ generator: inout SeededGenerator
  ) -> Matrix {
    Matrix(
      rowCount: rowCount, channelCount: channelCount,
      values: (0..<rowCount * channelCount).map { _ in Float.random(in: -8...8, using: &generator) }
    )
  }

  private static func probabilities(_ logits: Matrix, _ row: Int) -> [Double] {
    let weights = logits[row].map { exp(Double($0)) }
    return weights.map { $0 / weights.reduce(0, +) }
  }

  @Test(arguments: [1, 3]) func lossesAreLogarithmsOfSoftmax(_ threadCount: Int) throws {
    var generator = SeededGenerator()
    var likelihood = TokenLikelihood()
    var expected: [Double] = []
    for count in [1, 2, 9] {
      let logits = Self.random(count, 50, &generator)
      let tokens = (0..<count).map { _ in Int.random(in: 0..<50, using: &generator) }
      try likelihood.add(logits: logits, tokenIDs: tokens, threadCount: threadCount)
      for index in 1..<max(count, 1) where count > 1 {
        expected.append(-log(Self.probabilities(logits, index - 1)[tokens[index]]))
      }
    }
    #expect(likelihood.losses.count == 9)
    for (got, want) in zip(likelihood.losses, expected) {
      #expect(abs(got - want) < 1e-6, "seed \(generator.seed)")
    }
    let product = expected.map { exp(-$0) }.reduce(1, *)
    let perplexity = try #require(likelihood.perplexity)
    #expect(abs(perplexity / pow(product, -1.0 / 9) - 1) < 1e-6, "seed \(generator.seed)")
  }

  @Test(arguments: [[0, 4], [0, -1], [0, .max]]) func aTokenWithoutALogitIsRefused(tokens: [Int]) {
    var likelihood = TokenLikelihood()
    let logits = Matrix(rowCount: 2, channelCount: 4, values: .init(repeating: 0, count: 8))
    let refusal = #expect(throws: Refusal.self) {
      try likelihood.add(logits: logits, tokenIDs: tokens, threadCount: 1)
    }
    #expect(refusal?.rule == "run-token-id")
  }

  @Test func uniformLogitsHaveThePerplexityOfTheVocabulary() throws {
    var likelihood = TokenLikelihood()
    #expect(likelihood.perplexity == nil)
    let logits = Matrix(rowCount: 3, channelCount: 64, values: .init(repeating: 300, count: 192))
    try likelihood.add(logits: logits, tokenIDs: [1, 2, 3], threadCount: 1)
    #expect(abs(try #require(likelihood.perplexity) - 64) < 1e-9)
    #expect(likelihood.perplexityRatio(to: likelihood)?.ratio == 1)
    #expect(likelihood.perplexityRatio(to: likelihood)?.standardError == 0)
  }

  @Test func ratioHasTheStandardErrorOfTheMeanDifference() throws {
    var (a, b) = (TokenLikelihood(), TokenLikelihood())
    // Vocabulary of 2; losses are ln(1 + e^−x) for a logit x of the right token.
    let first: [Float] = [0, 1, 0, 2, 0, -1, 0, 0]
    let second: [Float] = [0, 2, 0, 0, 0, 1, 0, 0]
    let tokens = [0, 1, 1, 1]
    try a.add(
      logits: Matrix(rowCount: 4, channelCount: 2, values: first), tokenIDs: tokens, threadCount: 1)
    try b.add(
      logits: Matrix(rowCount: 4, channelCount: 2, values: second), tokenIDs: tokens, threadCount: 1
    )
    let loss = { (x: Double) in log(1 + exp(-x)) }
    let d = [loss(1) - loss(2), loss(2) - loss(0), loss(-1) - loss(1)]
    let mean = (d[0] + d[1] + d[2]) / 3
    let variance = d.map { ($0 - mean) * ($0 - mean) }.reduce(0, +) / 2
    let found = try #require(a.perplexityRatio(to: b))
    #expect(abs(found.ratio - exp(mean)) < 1e-6)
    #expect(abs(found.standardError - exp(mean) * sqrt(variance / 3)) < 1e-6)
  }

  @Test func divergencesAreThoseOfTheDefinition() throws {
    var generator = SeededGenerator()
    let reference = Self.random(100, 40, &generator)
    let model = Matrix(
      rowCount: 100, channelCount: 40,
      values: reference.values.map { $0 + Float.random(in: -1...1, using: &generator) })
    var comparison = DistributionComparison()
    #expect(comparison.mean == nil && comparison.maximum == nil && comparison.agreement == nil)
    try comparison.add(logits: model, reference: reference, threadCount: 2)
    var expected: [Double] = []
    var agreementCount = 0
    for row in 0..<100 {
      let (p, q) = (Self.probabilities(reference, row), Self.probabilities(model, row))
      expected.append(zip(p, q).reduce(0) { $0 + $1.0 * log($1.0 / $1.1) })
      if p.firstIndex(of: p.max() ?? 0) == q.firstIndex(of: q.max() ?? 0) { agreementCount += 1 }
    }
    for (got, want) in zip(comparison.divergences, expected) {
      #expect(abs(got - want) < 1e-6, "seed \(generator.seed)")
    }
    #expect(comparison.agreementCount == agreementCount)
    #expect(comparison.agreement == Double(agreementCount) / 100)
    let sorted = comparison.divergences.sorted()
    #expect(comparison.maximum == sorted[99] && comparison.quantile(0.99) == sorted[98])
    #expect(comparison.quantile(0) == sorted[0])
    var same = DistributionComparison()
    try same.add(logits: model, reference: model, threadCount: 1)
    #expect(same.maximum == 0 && same.agreement == 1)
  }
}
