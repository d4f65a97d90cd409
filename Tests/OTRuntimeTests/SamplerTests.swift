import Foundation
import OTFoundation
import OTRuntime
import Testing
import _OTTestSupport

@Suite struct SamplerTests {
  private static func draw(_ sampler: inout Sampler, _ logits: [Float]) throws -> Int {
    try logits.withUnsafeBufferPointer { try sampler.next($0) }
  }

  @Test func exponentialAgreesWithTheCLibrarys() {
    var generator = SeededGenerator()
    for _ in 0..<20_000 {
      let x = -Double.random(in: 0..<700, using: &generator)
      let expected = Foundation.exp(x)
      #expect(abs(exponential(x) - expected) <= 3 * expected.ulp, "x \(x), seed \(generator.seed)")
    }
    #expect(exponential(0) == 1)
    #expect(exponential(-709) == 0 && exponential(-.infinity) == 0)
  }

  @Test(
    arguments: [
      ([1, 3, 2], 1), ([3, 3, 3], 0), ([-1, 0, -0.0], 1), ([-.infinity, -5, -.infinity], 1),
      ([-.infinity, -.infinity], 0), ([7], 0),
    ] as [([Float], Int)])
  func greedyTakesTheLowestOfTheGreatest(logits: [Float], expected: Int) throws {
    var sampler = try Sampler()
    #expect(try Self.draw(&sampler, logits) == expected)
  }

  struct Distribution: Sendable, CustomStringConvertible {
    let description: String
    let logits: [Float]
    var temperature = 1.0
    var topK: Int?
    var topP: Double?
    /// Worked out by hand.
    let expected: [Double]
  }

  /// Logits are logarithms of the weights named.
  private static func logarithms(_ weights: Double...) -> [Float] { weights.map { Float(log($0)) } }

  static let distributions = [
    Distribution(description: "plain", logits: logarithms(1, 2, 5), expected: [0.125, 0.25, 0.625]),
    // Temperature 1/2 squares the weights, 2 takes their roots.
    Distribution(
      description: "cold", logits: logarithms(1, 2, 5), temperature: 0.5, expected: [1 / 30, 4 / 30, 25 / 30]),
    Distribution(
      description: "warm", logits: logarithms(1, 4, 9), temperature: 2, expected: [1 / 6, 2 / 6, 3 / 6]),
    Distribution(
      description: "top-k", logits: logarithms(4, 1, 3, 2), topK: 2, expected: [4 / 7, 0, 3 / 7, 0]),
    Distribution(
      description: "top-k beyond", logits: logarithms(1, 3), topK: 9, expected: [0.25, 0.75]),
    Distribution(
      description: "ties at k", logits: logarithms(2, 1, 1, 1), topK: 2, expected: [2 / 3, 1 / 3, 0, 0]),
    // 0.5 is less than 0.6, 0.8 is enough.
    Distribution(
      description: "top-p", logits: logarithms(2, 5, 3), topP: 0.6, expected: [0, 5 / 8, 3 / 8]),
    Distribution(description: "tiny top-p", logits: logarithms(2, 5, 3), topP: 1e-9, expected: [0, 1, 0]),
    // Of the three left (6 + 3 + 1), 6 is exactly 0.6 of what is left, below 0.65.
    Distribution(
      description: "top-k, then top-p", logits: logarithms(1, 6, 3, 0.5), topK: 3, topP: 0.65,
      expected: [0, 6 / 9, 3 / 9, 0]),
    Distribution(
      description: "impossible tokens", logits: [0, -.infinity, 0, -.infinity], expected: [0.5, 0, 0.5, 0]),
  ]

  @Test(arguments: distributions) func frequencies(_ test: Distribution) throws {
    var sampler = try Sampler(
      temperature: test.temperature, topK: test.topK, topP: test.topP, seed: 20_261_121)
    let count = 20_000
    var seen = [Int](repeating: 0, count: test.logits.count)
    for _ in 0..<count { seen[try Self.draw(&sampler, test.logits)] += 1 }
    var chiSquare = 0.0
    for (index, probability) in test.expected.enumerated() {
      guard probability > 0 else {
        #expect(seen[index] == 0, "token \(index)")
        continue
      }
      let expected = probability * Double(count)
      chiSquare += (Double(seen[index]) - expected) * (Double(seen[index]) - expected) / expected
    }
    // With at most 3 degrees of freedom, exceeded once in 10,000; the seed is fixed.
    #expect(chiSquare < 21.1, "\(seen)")
  }

  /// Against sorting everything, on a vocabulary in which many logits are equal.
  @Test(arguments: [(nil, 0.7), (50, nil), (200, 0.9), (1, nil), (nil, 1)] as [(Int?, Double?)])
  func agreesWithSortingEverything(topK: Int?, topP: Double?) throws {
    var random = SeededGenerator()
    let seed = random.next()
    let logits = (0..<3000).map { _ in (Float.random(in: -6..<6, using: &random) * 8).rounded() / 8 }
    var sampler = try Sampler(temperature: 0.8, topK: topK, topP: topP, seed: seed)
    var units = SplitMix64(seed: seed)
    let greatest = try #require(logits.max())
    var order = logits.indices.map { ($0, Foundation.exp((Double(logits[$0]) - Double(greatest)) / 0.8)) }
    let isCut = topK != nil || topP.map { $0 < 1 } ?? false
    if isCut {
      order.sort { logits[$0.0] > logits[$1.0] || (logits[$0.0] == logits[$1.0] && $0.0 < $1.0) }
      if let topK { order = Array(order.prefix(topK)) }
      var sum = 0.0
      let total = order.reduce(0) { $0 + $1.1 }
      if let end = order.firstIndex(where: {
        sum += $0.1
        return sum >= (topP ?? 1) * total
      }) {
        order = Array(order[...end])
      }
    }
    let total = order.reduce(0) { $0 + $1.1 }
    for _ in 0..<200 {
      let target = units.nextUnit() * total
      var sum = 0.0
      let expected = order.first {
        sum += $0.1
        return sum > target
      }
      #expect(try Self.draw(&sampler, logits) == expected?.0, "seed \(random.seed)")
    }
  }

  @Test func sameSeedSameTokens() throws {
    let logits = (0..<100).map { Float($0 % 7) }
    func tokens(_ seed: UInt64) throws -> [Int] {
      var sampler = try Sampler(temperature: 1, topP: 0.95, seed: seed)
      return try (0..<50).map { _ in try Self.draw(&sampler, logits) }
    }
    #expect(try tokens(3) == tokens(3))
    #expect(try tokens(3) != tokens(4))
  }

  @Test func refusals() throws {
    for temperature in [-1, .nan, .infinity] {
      #expect { try Sampler(temperature: temperature) } throws: { ($0 as? Refusal)?.rule == "sampling-temperature" }
    }
    #expect { try Sampler(topK: 0) } throws: { ($0 as? Refusal)?.rule == "sampling-top-k" }
    for topP in [0, -1, 1.1, .nan] {
      #expect { try Sampler(topP: topP) } throws: { ($0 as? Refusal)?.rule == "sampling-top-p" }
    }
    for bad in [Float.nan, .infinity] {
      var sampler = try Sampler()
      #expect { try Self.draw(&sampler, [1, bad, 2]) } throws: { ($0 as? Refusal)?.rule == "sampling-not-finite" }
    }
  }
}
