import OTFoundation

/// Chooses the next token by a model's logits.
///
/// Same logits, options and seed give the same tokens on every machine: numbers
/// come from `SplitMix64`, one to a token, and all arithmetic is additions,
/// multiplications and divisions of float64 in a fixed order.
///
/// 1. Temperature 0 is greedy: the token with the greatest logit, of equals the
///    one with the lowest ID. No random number is used.
/// 2. Otherwise token i weighs `exp((logit_i − greatest) / temperature)`.
/// 3. With `topK` only the k heaviest are left; of equals those with the lowest IDs.
/// 4. With `topP` only the heaviest of these are left, the fewest that have at
///    least that share of what 3 left. There is always one.
/// 5. One is drawn by weight: the first, in the order of 3 (in that of IDs
///    where neither 3 nor 4 applies), at which the sum of weights exceeds
///    u · total, with u from the generator in 0 ..< 1.
package struct Sampler: Sendable {
  private let temperature: Double
  private let topK: Int?
  private let topP: Double?
  private var generator: SplitMix64

  /// A sampler that has drawn nothing yet.
  ///
  /// - Parameters:
  ///   - temperature: 0 or more; 0 is greedy.
  ///   - topK: at least 1; nil: no limit.
  ///   - topP: above 0, at most 1; nil: 1, all.
  /// - Throws: `Refusal` with rule `sampling-temperature`, `sampling-top-k` or
  ///   `sampling-top-p`.
  package init(
    temperature: Double = 0, topK: Int? = nil, topP: Double? = nil, seed: UInt64 = 0
  ) throws(Refusal) {
    guard temperature.isFinite, temperature >= 0 else {
      throw Refusal("sampling-temperature", "a temperature is 0 or a positive number, not \(temperature)")
    }
    if let topK, topK < 1 { throw Refusal("sampling-top-k", "top-k is at least 1, not \(topK)") }
    if let topP, !(topP > 0 && topP <= 1) {
      throw Refusal("sampling-top-p", "top-p is above 0 and at most 1, not \(topP)")
    }
    self.temperature = temperature
    self.topK = topK
    self.topP = topP
    generator = SplitMix64(seed: seed)
  }

  /// The ID of the next token.
  ///
  /// - Parameter logits: `[vocabulary]`, not empty.
  /// - Throws: `Refusal` with rule `sampling-not-finite` for a NaN or +∞; a
  ///   token at −∞ is never chosen, unless all are.
  /// - Complexity: O(vocabulary), and O(log vocabulary) for each token that
  ///   `topK` and `topP` leave.
  package mutating func next(_ logits: UnsafeBufferPointer<Float>) throws(Refusal) -> Int {
    precondition(!logits.isEmpty, "no logits")
    var greatest = 0
    for index in logits.indices {
      guard logits[index] < .infinity else {
        throw Refusal("sampling-not-finite", "the model's logit of token \(index) is \(logits[index])")
      }
      if logits[index] > logits[greatest] { greatest = index }
    }
    guard temperature > 0, logits[greatest] > -.infinity else { return greatest }
    let origin = Double(logits[greatest])
    let temperature = temperature
    func weight(_ index: Int) -> Double { exponential((Double(logits[index]) - origin) / temperature) }
    let share = generator.nextUnit()
    guard topK != nil || topP.map({ $0 < 1 }) ?? false else {
      return draw(share, from: logits.indices.map { ($0, weight($0)) }) ?? greatest
    }
    return draw(share, from: candidates(logits, weight)) ?? greatest
  }

  /// The tokens that top-k and top-p leave, likeliest first.
  private func candidates(
    _ logits: UnsafeBufferPointer<Float>, _ weight: (Int) -> Double
  ) -> [(Int, Double)] {
    let count = min(topK ?? logits.count, logits.count)
    let limit = topP ?? 1
    var heap = LikeliestTokens(logits)
    var kept: [(id: Int, weight: Double)] = []
    if count < logits.count {
      // The total is that of the k alone, so all of them are needed first.
      while kept.count < count, let id = heap.popGreatest() { kept.append((id, weight(id))) }
      let total = kept.reduce(0) { $0 + $1.weight }
      var sum = 0.0
      let end = kept.firstIndex { token in
        sum += token.weight
        return sum >= limit * total
      }
      return Array(kept[...(end ?? kept.count - 1)])
    }
    let total = logits.indices.reduce(0) { $0 + weight($1) }
    var sum = 0.0
    while sum < limit * total, let id = heap.popGreatest() {
      kept.append((id, weight(id)))
      sum += weight(id)
    }
    return kept
  }

  private func draw(_ share: Double, from tokens: [(Int, Double)]) -> Int? {
    let target = share * tokens.reduce(0) { $0 + $1.1 }
    var sum = 0.0
    for (id, weight) in tokens {
      sum += weight
      // Exceeds, so that a token of weight 0 is not drawn at u = 0.
      if sum > target { return id }
    }
    return nil
  }
}

/// e^x for x ≤ 0 within 2 units in the last place; 0 below −708.
///
/// The C library's differs from one system to the next. x is n·ln 2 + r with
/// |r| ≤ 0.35; e^r is Taylor's polynomial of degree 13, whose remainder is below 2^-56.
package func exponential(_ x: Double) -> Double {
  guard x > -708 else { return 0 }
  let n = (x * 1.4426950408889634).rounded()
  // ln 2 in two parts, of which n times the first is exact.
  let r = (x - n * 0x1.62e42fee00000p-1) - n * 0x1.a39ef35793c76p-33
  var sum = 1 / 6_227_020_800.0
  for coefficient in taylorCoefficients { sum = sum * r + coefficient }
  return sum * Double(sign: .plus, exponent: Int(n), significand: 1)
}

/// 1/12!, 1/11! … 1/0!
private let taylorCoefficients: [Double] = [
  1 / 479_001_600, 1 / 39_916_800, 1 / 3_628_800, 1 / 362_880, 1 / 40_320, 1 / 5_040, 1 / 720, 1 / 120,
  1 / 24, 1 / 6, 1 / 2, 1, 1,
]

/// A binary heap of token IDs: greatest logit first, of equals the lowest ID.
private struct LikeliestTokens {
  private let logits: UnsafeBufferPointer<Float>
  private var ids: [Int32]

  init(_ logits: UnsafeBufferPointer<Float>) {
    self.logits = logits
    ids = (0..<Int32(clamping: logits.count)).map { $0 }
    for parent in stride(from: ids.count / 2 - 1, through: 0, by: -1) { sink(parent) }
  }

  mutating func popGreatest() -> Int? {
    guard let first = ids.first else { return nil }
    let last = ids.removeLast()
    if !ids.isEmpty {
      ids[0] = last
      sink(0)
    }
    return Int(first)
  }

  private func precedes(_ a: Int32, _ b: Int32) -> Bool {
    let (x, y) = (logits[Int(a)], logits[Int(b)])
    return x > y || (x == y && a < b)
  }

  private mutating func sink(_ index: Int) {
    var parent = index
    while true {
      var best = parent
      let left = 2 * parent + 1
      if left < ids.count, precedes(ids[left], ids[best]) { best = left }
      if left + 1 < ids.count, precedes(ids[left + 1], ids[best]) { best = left + 1 }
      if best == parent { return }
      ids.swapAt(parent, best)
      parent = best
    }
  }
}
