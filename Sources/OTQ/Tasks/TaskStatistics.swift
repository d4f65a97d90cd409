import OTFoundation
import OTPlatform

extension TaskFigure {
  /// A mean, and its standard error: the standard deviation of a sample (divisor n − 1) over √n; none of one value.
  static func mean(_ name: String, _ values: [Double], higherIsBetter: Bool = true) -> TaskFigure {
    TaskFigure(
      name, TaskStatistics.mean(values), standardError: TaskStatistics.standardErrorOfMean(values),
      higherIsBetter: higherIsBetter)
  }

  /// exp of a mean, less being better, and its standard error by the delta method: the value times that of the mean.
  static func exponentialOfMean(_ name: String, _ values: [Double]) -> TaskFigure {
    let value = exp(TaskStatistics.mean(values))
    return TaskFigure(
      name, value, standardError: TaskStatistics.standardErrorOfMean(values).map { $0 * value }, higherIsBetter: false)
  }
}

/// The formulas of figures, in float64.
package enum TaskStatistics {
  /// Σ x / n; NaN of nothing.
  package static func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }

  /// √(Σ(x − x̄)² / (n − 1) / n); nil for fewer than two values.
  package static func standardErrorOfMean(_ values: [Double]) -> Double? {
    guard values.count > 1 else { return nil }
    let (mean, count) = (mean(values), Double(values.count))
    let sum = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
    return (sum / (count - 1) / count).squareRoot()
  }

  /// The index of the greatest value, of equals the first; nil of none.
  package static func firstGreatest(_ values: [Double]) -> Int? {
    values.indices.max { (values[$0], $1) < (values[$1], $0) }
  }

  /// Matthews' correlation of labels, for any number of them: with c right of s items, tₖ of label k and pₖ given it,
  /// (c·s − Σ tₖ·pₖ) / √((s² − Σ pₖ²)(s² − Σ tₖ²)); 0 where a divisor is 0.
  package static func matthews(_ golds: [Int], _ chosen: [Int]) -> Double {
    let labels = Set(golds).union(chosen)
    let (count, right) = (Double(golds.count), Double(zip(golds, chosen).count { $0 == $1 }))
    var (products, chosenSquares, goldSquares) = (0.0, 0.0, 0.0)
    for label in labels {
      let (t, p) = (Double(golds.count { $0 == label }), Double(chosen.count { $0 == label }))
      products += t * p
      chosenSquares += p * p
      goldSquares += t * t
    }
    let divisor = ((count * count - chosenSquares) * (count * count - goldSquares)).squareRoot()
    return divisor == 0 ? 0 : (right * count - products) / divisor
  }

  /// F1 of label 1: 2·TP / (2·TP + FP + FN); 0 where nothing is or is called it.
  package static func f1(_ golds: [Int], _ chosen: [Int]) -> Double {
    let right = zip(golds, chosen).count { $0 == 1 && $1 == 1 }
    let all = golds.count { $0 == 1 } + chosen.count { $0 == 1 }
    return all == 0 ? 0 : 2 * Double(right) / Double(all)
  }

  /// Pearson's correlation: Σ(x − x̄)(y − ȳ) / √(Σ(x − x̄)²·Σ(y − ȳ)²); NaN where one is constant.
  package static func pearson(_ x: [Double], _ y: [Double]) -> Double {
    let (xMean, yMean) = (mean(x), mean(y))
    var (xy, xx, yy) = (0.0, 0.0, 0.0)
    for (x, y) in zip(x, y) {
      xy += (x - xMean) * (y - yMean)
      xx += (x - xMean) * (x - xMean)
      yy += (y - yMean) * (y - yMean)
    }
    return xy / (xx * yy).squareRoot()
  }

  /// Spearman's correlation: Pearson's of ranks, equal values sharing the mean of theirs.
  package static func spearman(_ x: [Double], _ y: [Double]) -> Double { pearson(ranks(x), ranks(y)) }

  /// The rank of each value from 1; of equals the mean.
  package static func ranks(_ values: [Double]) -> [Double] {
    let order = values.indices.sorted { values[$0] < values[$1] }
    var ranks = [Double](repeating: 0, count: values.count)
    var start = 0
    while start < order.count {
      let end = order[start...].firstIndex { values[$0] != values[order[start]] } ?? order.count
      for place in order[start..<end] { ranks[place] = Double(start + 1 + end) / 2 }
      start = end
    }
    return ranks
  }

  /// What two models have right of the same items.
  package struct Flips {
    /// Both.
    package private(set) var bothRight = 0
    /// Neither.
    package private(set) var bothWrong = 0
    /// The model, and not the reference.
    package private(set) var gained = 0
    /// The reference, and not the model.
    package private(set) var lost = 0

    /// Counts answers; nil is neither right nor wrong.
    package init(_ answers: some Sequence<Bool?>, reference: some Sequence<Bool?>) {
      for pair in zip(answers, reference) {
        switch pair {
        case (true?, true?): bothRight += 1
        case (false?, false?): bothWrong += 1
        case (true?, false?): gained += 1
        case (false?, true?): lost += 1
        default: break
        }
      }
    }
  }

  /// McNemar's p, exact: with b gained, c lost and n = b + c, min(1, 2·Σ C(n, k)/2ⁿ over k = 0 … min(b, c)).
  package static func mcNemarP(gained: Int, lost: Int) -> Double {
    let count = Double(gained + lost)
    var sum = 0.0
    for k in 0...min(gained, lost) {
      let combinations = lgamma(count + 1) - lgamma(Double(k) + 1) - lgamma(count - Double(k) + 1)
      sum += exp(combinations - count * log(2))
    }
    return min(1, 2 * sum)
  }

  /// The standard error of exp of the mean of `losses`, as lm-eval draws it: the standard deviation (divisor n − 1) of
  /// the perplexities of samples with replacement, a thousand for each seed 0, 1, ….
  ///
  /// - Parameter seedCount: 100 with lm-eval's default of 100,000 samples.
  /// - Complexity: O(1000 · seeds · losses), on so many threads.
  package static func drawnErrorOfPerplexity(
    _ losses: [Double], seedCount: Int = 100, threadCount: Int
  ) throws -> Double? {
    guard losses.count > 1 else { return nil }
    let count = Double(losses.count)
    let samples = try mapBlocks(seedCount, threadCount: threadCount) { seed -> [Double] in
      var generator = MersenneTwister(seed: UInt32(seed))
      var perplexities: [Double] = []
      for _ in 0..<1000 {
        var sum = 0.0
        for _ in losses.indices { sum += losses[Int(generator.nextDouble() * count)] }
        perplexities.append(exp(sum / count))
      }
      return perplexities
    }
    let values = Array(samples.joined())
    let center = mean(values)
    var squares = 0.0
    for value in values { squares += (value - center) * (value - center) }
    return (squares / Double(values.count - 1)).squareRoot()
  }
}
