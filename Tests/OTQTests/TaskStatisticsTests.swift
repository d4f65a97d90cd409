import Foundation
import OTQ
import Testing

/// Formulas of figures, with values worked out by hand.
@Suite struct TaskStatisticsTests {
  private func isClose(_ a: Double, _ b: Double) -> Bool { abs(a - b) < 1e-12 }

  /// Mean 3/4; deviations −3/4 once, 1/4 three times: 12/16 over 3 over 4.
  @Test func meansAndTheirErrors() throws {
    let values = [0.0, 1, 1, 1]
    #expect(TaskStatistics.mean(values) == 0.75)
    #expect(isClose(try #require(TaskStatistics.standardErrorOfMean(values)), 0.25))
    #expect(TaskStatistics.standardErrorOfMean([1]) == nil)
  }

  /// Of two labels: TP 1, TN 2, FP 1, FN 1: (2 − 1) / √(2·2·3·3) = 1/6.
  @Test func matthewsOfTwoLabels() {
    #expect(isClose(TaskStatistics.matthews([1, 1, 0, 0, 0], [1, 0, 0, 0, 1]), 1.0 / 6))
    #expect(TaskStatistics.matthews([1, 0], [1, 0]) == 1)
    #expect(TaskStatistics.matthews([1, 0], [0, 1]) == -1)
    // All called the same: defined as 0.
    #expect(TaskStatistics.matthews([1, 0, 1], [1, 1, 1]) == 0)
  }

  /// Of three: s = 6, c = 4, t = (2, 2, 2), p = (1, 2, 3): (24 − 12) / √((36 − 14)(36 − 12)).
  @Test func matthewsOfThreeLabels() {
    let value = TaskStatistics.matthews([0, 0, 1, 1, 2, 2], [0, 1, 1, 2, 2, 2])
    #expect(isClose(value, 12 / (22.0 * 24).squareRoot()))
  }

  /// TP 2, FP 1, FN 0: 4/5.
  @Test func f1() {
    #expect(isClose(TaskStatistics.f1([1, 1, 0, 0], [1, 1, 1, 0]), 0.8))
    #expect(TaskStatistics.f1([0, 0], [0, 0]) == 0)
  }

  /// Deviations −1, 0, 1 and −2, 1, 1: products 2, 0, 1; squares 2 and 6.
  @Test func pearson() {
    #expect(isClose(TaskStatistics.pearson([1, 2, 3], [1, 4, 4]), 3 / 12.0.squareRoot()))
    #expect(TaskStatistics.pearson([1, 1], [1, 2]).isNaN)
  }

  @Test func ranksShareTheirMean() {
    #expect(TaskStatistics.ranks([10, 30, 10, 20]) == [1.5, 4, 1.5, 3])
    #expect(TaskStatistics.ranks([7, 7, 7]) == [2, 2, 2])
    // Ranks 1.5, 4, 1.5, 3 and 1, 4, 2, 3: deviations −1, 1.5, −1, 0.5 and −1.5, 1.5, −0.5, 0.5.
    let expected = (1.5 + 2.25 + 0.5 + 0.25) / (4.5 * 5).squareRoot()
    #expect(isClose(TaskStatistics.spearman([10, 30, 10, 20], [-1, 100, 0, 1]), expected))
  }

  /// What is neither right nor wrong counts for nothing.
  @Test func flips() {
    let flips = TaskStatistics.Flips(
      [true, true, false, false, false, nil, true], reference: [true, false, true, false, true, true, nil])
    #expect(flips.bothRight == 1 && flips.bothWrong == 1 && flips.gained == 1 && flips.lost == 2)
  }

  /// Numbers of Python's `random`: of seed 0 the first, of seed 99 the 700th, beyond the first state.
  @Test func drawsArePythons() {
    var generator = MersenneTwister(seed: 0)
    #expect(generator.nextDouble() == 0.8444218515250481)
    #expect(generator.nextDouble() == 0.7579544029403025)
    generator = MersenneTwister(seed: 7)
    #expect(generator.nextDouble() == 0.32383276483316237)
    generator = MersenneTwister(seed: 99)
    for _ in 1..<700 { _ = generator.nextDouble() }
    #expect(generator.nextDouble() == 0.1557611565809286)
  }

  /// What Python gives with `random.choices` for two seeds.
  @Test func drawnErrors() throws {
    let losses = [1.0, 2.5, 0.5, 3, 2]
    let found = try #require(
      try TaskStatistics.drawnErrorOfPerplexity(losses, seedCount: 2, threadCount: 2))
    #expect(isClose(found, 2.789323408271113))
    #expect(try TaskStatistics.drawnErrorOfPerplexity([1], threadCount: 1) == nil)
  }

  @Test func theFirstOfEqualsIsChosen() {
    #expect(TaskStatistics.firstGreatest([1, 3, 3, 2]) == 1)
    #expect(TaskStatistics.firstGreatest([]) == nil)
  }
}
