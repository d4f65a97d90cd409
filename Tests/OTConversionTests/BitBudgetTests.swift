import Foundation
import OTContainer
import OTConversion
import OTFoundation
import OTModel
import OTObservation
import OTQuantization
import OTRuntime
import Testing
import _OTModelSupport
import _OTTestSupport

/// Bits that are chosen under a budget.
@Suite struct BitBudgetTests {
  @Test func budgetsAreBitsPerWeightOrBytes() {
    #expect(BitBudget("5.25bpw") == .bitsPerWeight(5.25))
    #expect(BitBudget("6BPW") == .bitsPerWeight(6))
    for (text, count) in [("90MB", 90_000_000), ("90M", 90_000_000), ("1.5G", 1_500_000_000), ("12345", 12345)] {
      #expect(BitBudget(text) == .byteCount(count))
    }
    for text in ["", "bpw", "0bpw", "-1bpw", "nanbpw", "infbpw", "MB", "0", "-5M", "5 M", "5X", "0.5", "1e30"] {
      #expect(BitBudget(text) == nil, "\(text)")
    }
  }

  // MARK: The choice

  /// Convex costs, as those of bits are: each bit a quarter of the error.
  private static func parts(_ random: inout SeededGenerator, count: Int) -> [[BitAllocation.Option]] {
    (0..<count).map { _ in
      let size = Double.random(in: 1...20, using: &random)
      let weight = Double.random(in: 0.01...5, using: &random)
      return (3...5).map {
        BitAllocation.Option(bits: $0, byteCount: size * Double($0), cost: weight * pow(0.25, Double($0)))
      }
    }
  }

  /// The least cost of all choices that fit, and the cost of the choice, over random parts.
  @Test func theChoiceIsNearTheBestOfAll() throws {
    var random = SeededGenerator(seed: 11)
    for round in 0..<200 {
      let parts = Self.parts(&random, count: 5)
      let least = parts.reduce(0) { $0 + $1[0].byteCount }
      let budget = Double.random(in: least...least * 5 / 3, using: &random)
      let chosen = try #require(BitAllocation.choice(among: parts, byteCount: budget))
      func total(_ choice: [Int]) -> (byteCount: Double, cost: Double) {
        zip(parts, choice).reduce((0, 0)) { ($0.0 + $1.0[$1.1].byteCount, $0.1 + $1.0[$1.1].cost) }
      }
      var best = Double.infinity
      for number in 0..<243 {
        let choice = (0..<5).map { number / [1, 3, 9, 27, 81][$0] % 3 }
        let (byteCount, cost) = total(choice)
        if byteCount <= budget { best = min(best, cost) }
      }
      let found = total(chosen)
      #expect(found.byteCount <= budget, "seed 11, round \(round)")
      // One step of one part is all that greedy steps can miss.
      let step = parts.map { $0[0].cost - $0[1].cost }.max() ?? 0
      #expect(found.cost >= best && found.cost <= best + step, "seed 11, round \(round)")
    }
  }

  @Test func whatDoesNotFitIsNothing() {
    let part = [BitAllocation.Option(bits: 3, byteCount: 10, cost: 1), .init(bits: 4, byteCount: 14, cost: 0.2)]
    #expect(BitAllocation.choice(among: [part, part], byteCount: 19.9) == nil)
    #expect(BitAllocation.choice(among: [part, part], byteCount: 20) == [0, 0])
    #expect(BitAllocation.choice(among: [part, part], byteCount: 25) == [1, 0])
    #expect(BitAllocation.choice(among: [part, part], byteCount: 28) == [1, 1])
    #expect(BitAllocation.choice(among: [], byteCount: 0) == [])
  }

  /// More bits that cost more, or as much, are never taken; nor is what lies above the hull on the way.
  @Test func optionsThatDoNotHelpAreLeftOut() {
    let flat = [BitAllocation.Option(bits: 3, byteCount: 10, cost: 1), .init(bits: 4, byteCount: 14, cost: 1)]
    #expect(BitAllocation.choice(among: [flat], byteCount: 100) == [0])
    let dent: [BitAllocation.Option] = [
      .init(bits: 3, byteCount: 10, cost: 10), .init(bits: 4, byteCount: 11, cost: 9.9),
      .init(bits: 5, byteCount: 12, cost: 0),
    ]
    #expect(BitAllocation.choice(among: [dent], byteCount: 11.5) == [0])
    #expect(BitAllocation.choice(among: [dent], byteCount: 12) == [2])
  }

  // MARK: Files

  private static let samples = (0..<4).map { sample in
    TokenSequence((0..<64).map { ($0 * 37 + sample * 101) % 1900 + 4 })
  }

  private func plan(
    _ fixture: Fixture, _ budget: BitBudget, samples: [TokenSequence]? = samples,
    change: (inout ConversionOptions) -> Void = { _ in }
  ) throws -> ConversionPlan {
    var options = ConversionOptions()
    options.methods = [Hadamard()]
    options.activationBits = 8
    options.threadCount = 2
    options.budget = budget
    change(&options)
    return try Conversion(fixture.source(), options: options).plan().within(budget, samples: samples)
  }

  private func bits(_ plan: ConversionPlan) -> Set<Int> {
    Set(
      plan.tensors.filter(\.isBlockWeight).compactMap {
        if case .quantized(let scheme) = $0.treatment { scheme.bits } else { nil }
      })
  }

  @Test(arguments: Fixture.allCases) func filesStayWithinBitsPerWeight(_ fixture: Fixture) throws {
    try withTemporaryFolder { folder in
      for samples in [Self.samples, nil] {
        let plan = try plan(fixture, .bitsPerWeight(5), samples: samples)
        #expect(bits(plan).count > 1, "\(bits(plan))")
        try Converter(plan).run(to: folder + "/m.otq", force: true)
        let file = try PackedModel(path: folder + "/m.otq")
        let found = file.linearBitsPerWeight
        #expect(found <= 5 && found > 4.8, "\(fixture.family): \(found)")
        #expect(plan.budgetWarning(of: file) == nil)
        // A file of more bits would be told of.
        var wide = ConversionOptions()
        wide.bits = 6
        try Converter(Conversion(fixture.source(), options: wide).plan()).run(to: folder + "/w.otq", force: true)
        #expect(plan.budgetWarning(of: try PackedModel(path: folder + "/w.otq"))?.contains("lower --budget") == true)
      }
    }
  }

  @Test(arguments: [Compression.standard, .none]) func filesStayWithinBytes(_ compression: Compression) throws {
    try withTemporaryFolder { folder in
      for count in [1_200_000, 1_400_000] {
        let plan = try plan(.llama, .byteCount(count)) { $0.compression = compression }
        try Converter(plan).run(to: folder + "/m.otq", force: true)
        let found = try MappedFile(path: folder + "/m.otq").byteCount
        #expect(found <= count && found > count * 9 / 10, "\(found) of \(count)")
      }
    }
  }

  /// Fused groups keep one number of bits, and named linears theirs.
  @Test func groupsAndRulesAreKept() throws {
    let pattern = try #require(NamePattern("layers\\.0\\.self_attn\\.o_proj"))
    let plan = try plan(.llama, .bitsPerWeight(4.5)) { $0.bitsFor = [(pattern, 7)] }
    let graph = try #require(plan.graph)
    for site in graph.sites {
      let bits = Set(site.consumers.compactMap { plan.recipe.weights[$0]?.scheme?.bits })
      #expect(bits.count == 1)
      if site.consumers.contains(where: pattern.matches) { #expect(bits == [7]) }
    }
  }

  @Test func budgetsThatAreTooSmallAreRefused() throws {
    for budget in [BitBudget.bitsPerWeight(2), .byteCount(1000)] {
      #expect(throws: Refusal.self) { try plan(.llama, budget) }.map { #expect($0.rule == "budget-small") }
    }
  }

  /// A site in front of which everything is 0 costs nothing, and one whose output the model needs costs much.
  @Test func sensitivityIsWhatTheOutputsMove() throws {
    let source = try Fixture.llama.source()
    let plan = try plan(.llama, .bitsPerWeight(8))
    let graph = try #require(plan.graph)
    let found = try BitSensitivity(
      graph: graph, parameters: source.parameters, weights: plan.recipe.weights, threadCount: 2
    ).run(Self.samples)
    #expect(found.count == graph.sites.count && found.values.allSatisfy { $0 > 0 && $0.isFinite })
    // By the real thing: the same site at 4 bits in a file whose other linears stay float.
    let site = try #require(graph.sites.first { $0.consumers.contains { $0.hasSuffix("down_proj") } })
    let linear = try #require(site.consumers.first)
    let file = try withTemporaryFolder { folder in
      var options = ConversionOptions()
      options.bits = 4
      options.activationBits = 16
      options.embeddingBits = 16
      options.methods = [Hadamard()]
      options.exclude = graph.sites.filter { $0.producer != site.producer }.flatMap(\.consumers).compactMap {
        NamePattern("^\($0.replacingOccurrences(of: ".", with: "\\."))$")
      }
      try Converter(Conversion(source, options: options).plan()).run(to: folder + "/m.otq")
      return try PackedModel(path: folder + "/m.otq")
    }
    #expect(file.blockWeights.count == 1, "\(linear)")
    let packed = try QuantizedExecutor(graph: #require(file.graph), container: file.container, threadCount: 2)
    let float = try Fixture.llama.floatExecutor()
    var comparison = DistributionComparison()
    for sample in Self.samples {
      try comparison.add(
        logits: packed.run(tokenIDs: sample.tokenIDs).output("logits"),
        reference: float.run(tokenIDs: sample.tokenIDs).output("logits"), threadCount: 2)
    }
    let (mean, expected) = (try #require(comparison.mean), try #require(found[site.producer]))
    #expect(abs(mean - expected) < 0.02 * mean, "\(mean), \(expected)")
  }
}
