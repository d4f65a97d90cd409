import OTFoundation
import OTKernels
import OTModel
import OTObservation
import OTQuantization
import OTTensor
import Testing
import _OTModelSupport
import _OTTestSupport

/// GPTQ against the authors' code (fixtures/methods), against the paper's own update, and at the edges.
@Suite struct GPTQTests {
  private static func moments(_ products: [Double], _ n: Int) -> SiteObservations {
    var observed = SiteObservations()
    observed.moments = SecondMoments(rowCount: 1, sums: [Double](repeating: 0, count: n), products: products)
    return observed
  }

  private static func rounded(
    _ view: TensorView, _ scheme: QuantizationScheme, _ rule: GPTQ, _ observed: SiteObservations
  ) throws -> QuantizedRows {
    try WeightQuantizer(TransformedRows(view: view), scheme: scheme, rounding: rule.fitted(to: observed))
      .quantize(rows: 0..<view.shape.rowCount)
  }

  /// tr((W − Ŵ) H (W − Ŵ)ᵀ).
  private static func error(
    _ rows: QuantizedRows, _ scheme: QuantizationScheme, _ weights: [Float], _ hessian: [Double], _ n: Int
  ) -> Double {
    var total = 0.0
    for first in stride(from: 0, to: weights.count, by: n) {
      let errors = (0..<n).map { column -> Double in
        let step = first / n * scheme.groupCount(columnCount: n) + column / scheme.groupSize(columnCount: n)
        let zeroPoint = scheme.isSymmetric ? scheme.symmetricZeroPoint : Int(rows.zeroPoints[step])
        return Double(weights[first + column] - rows.scales[step] * Float(Int(rows.values[first + column]) - zeroPoint))
      }
      for i in 0..<n { for j in 0..<n { total += errors[i] * hessian[i * n + j] * errors[j] } }
    }
    return total
  }

  @Test(arguments: [Fixture.opt, .llama]) func valuesAreTheAuthors(_ fixture: Fixture) throws {
    let file = try Goldens(path: Fixtures.path("methods/\(fixture.family)-mini/gptq.safetensors"))
    let checkpoint = try fixture.checkpoint()
    let layer = fixture == .opt ? "model.decoder.layers.0.self_attn." : "model.layers.0.self_attn."
    for (site, name) in [("attn_in", "q_proj"), ("attn_out", fixture == .opt ? "out_proj" : "o_proj")] {
      let view = try #require(checkpoint[layer + name + ".weight"])
      let n = view.shape.rowElementCount
      let hessian = try file.floats("hessian/layers.0.\(site)").map { Double($0) }
      let weights = try TransformedRows(view: view).values(rows: 0..<view.shape.rowCount)
      let settings: [(String, Int, QuantizationScheme.Granularity, GPTQ)] = [
        ("w4_ch_asym", 4, .perChannel, GPTQ(isOrdered: false)), ("w4_ch_asym_actorder", 4, .perChannel, GPTQ()),
        ("w4_g64_asym_actorder_static", 4, .perGroup(size: 64), GPTQ()),
        ("w6_ch_asym", 6, .perChannel, GPTQ(isOrdered: false)),
      ]
      for (setting, bits, granularity, rule) in settings {
        let scheme = try #require(QuantizationScheme(bits: bits, isSymmetric: false, granularity: granularity))
        let rows = try Self.rounded(view, scheme, rule, Self.moments(hessian, n))
        let expected = try file.bytes("\(setting)/\(layer)\(name)/codes")
        let differing = zip(rows.values, expected).filter { $0 != $1 }.count
        // Ties of float32 fall otherwise in another order of the same sums.
        #expect(Double(differing) <= 0.02 * Double(expected.count), "\(setting) \(name): \(differing)")
        let golden = try Double(file.floats("\(setting)/\(layer)\(name)/err")[0])
        let error = Self.error(rows, scheme, weights, hessian, n)
        #expect(abs(error / golden - 1) < 0.02, "\(setting) \(name): \(error), \(golden)")
      }
    }
  }

  /// The paper's update, in float64: after each column the others move by the error times a row of the
  /// inverse's factor.
  private static func paper(
    _ row: [Double], scale: Double, zeroPoint: Int, codes: ClosedRange<Int>, _ hessian: [Double], damping: Double
  ) -> [Int] {
    let n = row.count
    var matrix = hessian
    let mean = (0..<n).reduce(0) { $0 + hessian[$1 * n + $1] } / Double(n)
    for i in 0..<n { matrix[i * n + i] += damping * mean }
    // Gauss–Jordan.
    var inverse = (0..<n * n).map { $0 / n == $0 % n ? 1.0 : 0 }
    for column in 0..<n {
      let pivot = matrix[column * n + column]
      for j in 0..<n {
        matrix[column * n + j] /= pivot
        inverse[column * n + j] /= pivot
      }
      for i in 0..<n where i != column {
        let factor = matrix[i * n + column]
        for j in 0..<n {
          matrix[i * n + j] -= factor * matrix[column * n + j]
          inverse[i * n + j] -= factor * inverse[column * n + j]
        }
      }
    }
    var weights = row
    var result: [Int] = []
    for q in 0..<n {
      let code = Int((weights[q] / scale).rounded(.toNearestOrEven)) + zeroPoint
      let kept = min(max(code, codes.lowerBound), codes.upperBound)
      result.append(kept)
      let error = (weights[q] - scale * Double(kept - zeroPoint)) / inverse[q * n + q]
      for j in q..<n { weights[j] -= error * inverse[q * n + j] }
      // The inverse of what is left: one step of Gaussian elimination.
      let pivot = inverse[q * n + q]
      for i in q + 1..<max(n, q + 1) {
        let factor = inverse[i * n + q] / pivot
        for j in q..<n { inverse[i * n + j] -= factor * inverse[q * n + j] }
      }
    }
    return result
  }

  /// Moments of channels that depend on each other.
  private static func correlated(_ n: Int, using generator: inout SeededGenerator) -> [Double] {
    let rows = (0..<2 * n).map { _ -> [Double] in
      let common = Double.random(in: -1...1, using: &generator)
      return (0..<n).map { Double($0 % 5 + 1) * (common + Double.random(in: -1...1, using: &generator)) }
    }
    return (0..<n * n).map { index in rows.reduce(0) { $0 + $1[index / n] * $1[index % n] } }
  }

  @Test(arguments: [7, 64, 100]) func isThePapersUpdate(_ n: Int) throws {
    var generator = SeededGenerator()
    let hessian = Self.correlated(n, using: &generator)
    let weights = randomWeights(20 * n, using: &generator)
    let scheme = try #require(QuantizationScheme(bits: 4, isSymmetric: false, granularity: .perChannel))
    try withWeight(weights, shape: [20, n]) { view in
      let rule = GPTQ(isOrdered: false)
      let rows = try Self.rounded(view, scheme, rule, Self.moments(hessian, n))
      var differing = 0
      for row in 0..<20 {
        let expected = Self.paper(
          weights[row * n..<(row + 1) * n].map { Double(Float($0)) }, scale: Double(rows.scales[row]),
          zeroPoint: Int(rows.zeroPoints[row]), codes: 0...15, hessian, damping: rule.damping)
        differing += zip(rows.values[row * n..<(row + 1) * n], expected).filter { Int($0) != $1 }.count
      }
      #expect(differing <= 20 * n / 100, "\(differing) of \(20 * n), seed \(generator.seed)")
      // What it is for.
      let floats = weights.map { Float($0) }
      let nearest = try WeightQuantizer(TransformedRows(view: view), scheme: scheme).quantize(rows: 0..<20)
      let ordered = try Self.rounded(view, scheme, GPTQ(), Self.moments(hessian, n))
      let plain = Self.error(nearest, scheme, floats, hessian, n)
      #expect(Self.error(rows, scheme, floats, hessian, n) < plain)
      #expect(Self.error(ordered, scheme, floats, hessian, n) < plain)
    }
  }

  /// Weights that read other inputs than they were made for give what they gave, as far as that can be had: with many
  /// bits they are those of least squares, which Gauss and Jordan find here.
  @Test func driftIsMadeUpFor() throws {
    var generator = SeededGenerator()
    let (n, count) = (12, 400)
    func random() -> Double { Double.random(in: -1...1, using: &generator) }
    let mixing = (0..<n * n).map { $0 / n == $0 % n ? 1 : 0.1 * random() }
    let inputs = (0..<count).map { _ in (0..<n).map { _ in random() } }
    let drifted = inputs.map { x in
      (0..<n).map { j in (0..<n).reduce(0.02 * random()) { $0 + x[$1] * mixing[$1 * n + j] } }
    }
    var (hessian, drift) = ([Double](repeating: 0, count: n * n), [Double](repeating: 0, count: n * n))
    for (x, y) in zip(inputs, drifted) {
      for i in 0..<n {
        for j in 0..<n {
          hessian[i * n + j] += y[i] * y[j]
          drift[i * n + j] += (x[i] - y[i]) * y[j]
        }
      }
    }
    var observed = Self.moments(hessian, n)
    observed.drift = drift
    let weights = randomWeights(16 * n, using: &generator)
    let floats = weights.map { Double(Float($0)) }
    let scheme = try #require(QuantizationScheme(bits: 8, isSymmetric: true, granularity: .perChannel))
    try withWeight(weights, shape: [16, n]) { view in
      func loss(_ rule: GPTQ) throws -> Double {
        let rows = try Self.rounded(view, scheme, rule, observed)
        var (sum, squares) = (0.0, 0.0)
        for row in 0..<16 {
          let values = (0..<n).map { Double(rows.scales[row]) * Double(Int(rows.values[row * n + $0]) - 128) }
          for (x, y) in zip(inputs, drifted) {
            let wanted = (0..<n).reduce(0.0) { $0 + floats[row * n + $1] * x[$1] }
            let got = (0..<n).reduce(0.0) { $0 + values[$1] * y[$1] }
            sum += (wanted - got) * (wanted - got)
          }
          for (value, weight) in zip(values, floats[row * n..<(row + 1) * n]) {
            squares += (value - weight) * (value - weight)
          }
        }
        // What a file says of the error is of the weights as they were.
        #expect(abs(rows.statistics.squaredError / squares - 1) < 1e-3, "seed \(generator.seed)")
        return sum
      }
      let least = (0..<16).reduce(0.0) { sum, row in
        sum + Self.leastSquares(Array(floats[row * n..<(row + 1) * n]), inputs, drifted)
      }
      let losses = try [0, 0.5, 1].map { try loss(GPTQ(damping: 1e-6, drift: $0)) }
      // What is left is a quadratic in what is left of the drift, and the rounding to 8 bits.
      for (share, loss) in zip([0, 0.5, 1], losses) {
        let expected = least + (1 - share) * (1 - share) * (losses[0] - least)
        #expect(
          loss > least * 0.999 && abs(loss - expected) < losses[0] / 10, "\(share): \(losses), seed \(generator.seed)")
      }
      #expect(losses[0] > least * 10, "\(losses), least \(least), seed \(generator.seed)")
    }
  }

  /// min over v of Σ (w·x − v·y)².
  private static func leastSquares(_ weight: [Double], _ inputs: [[Double]], _ drifted: [[Double]]) -> Double {
    let n = weight.count
    // The normal equations, with what is wanted as the last column.
    var system = [Double](repeating: 0, count: n * (n + 1))
    let wanted = inputs.map { x in (0..<n).reduce(0.0) { $0 + weight[$1] * x[$1] } }
    for (y, target) in zip(drifted, wanted) {
      for i in 0..<n {
        for j in 0..<n { system[i * (n + 1) + j] += y[i] * y[j] }
        system[i * (n + 1) + n] += y[i] * target
      }
    }
    for column in 0..<n {
      let pivot = system[column * (n + 1) + column]
      for j in 0...n { system[column * (n + 1) + j] /= pivot }
      for i in 0..<n where i != column {
        let factor = system[i * (n + 1) + column]
        for j in 0...n { system[i * (n + 1) + j] -= factor * system[column * (n + 1) + j] }
      }
    }
    return zip(drifted, wanted).reduce(0) { sum, element in
      let got = (0..<n).reduce(0.0) { $0 + system[$1 * (n + 1) + n] * element.0[$1] }
      return sum + (element.1 - got) * (element.1 - got)
    }
  }

  /// After coordinate descent no other value of any one weight is nearer, and no row is worse than before.
  @Test(arguments: [(5, true), (64, false), (100, true)]) func descentEndsWhereNoOneValueIsBetter(
    _ n: Int, isOrdered: Bool
  ) throws {
    var generator = SeededGenerator()
    let hessian = Self.correlated(n, using: &generator)
    let weights = randomWeights(20 * n, using: &generator)
    let floats = weights.map { Float($0) }
    let scheme = try #require(QuantizationScheme(bits: 4, isSymmetric: true, granularity: .perChannel))
    var damped = hessian
    let mean = (0..<n).reduce(0) { $0 + hessian[$1 * n + $1] } / Double(n)
    for i in 0..<n { damped[i * n + i] += 0.01 * mean }
    try withWeight(weights, shape: [20, n]) { view in
      let start = try Self.rounded(view, scheme, GPTQ(isOrdered: isOrdered), Self.moments(hessian, n))
      let rule = GPTQ(isOrdered: isOrdered, passCount: 100)
      let rows = try Self.rounded(view, scheme, rule, Self.moments(hessian, n))
      #expect(rows.scales == start.scales, "seed \(generator.seed)")
      for row in 0..<20 {
        let range = row * n..<(row + 1) * n
        let scale = Double(rows.scales[row])
        func loss(_ errors: [Double]) -> Double {
          var sum = 0.0
          for i in 0..<n { for j in 0..<n { sum += errors[i] * damped[i * n + j] * errors[j] } }
          return sum
        }
        func errors(_ values: [UInt8]) -> [Double] {
          zip(floats[range], values[range]).map { Double($0) - scale * Double(Int($1) - scheme.symmetricZeroPoint) }
        }
        var best = errors(rows.values)
        let least = loss(best)
        let slack = 1e-4 * least
        #expect(least <= loss(errors(start.values)) + slack, "row \(row), seed \(generator.seed)")
        for j in 0..<n {
          for step in [-1, 1] where (1...15).contains(Int(rows.values[range.lowerBound + j]) + step) {
            best[j] -= scale * Double(step)
            #expect(loss(best) >= least - slack, "row \(row), weight \(j), seed \(generator.seed)")
            best[j] += scale * Double(step)
          }
        }
      }
    }
  }

  @Test func blocksOfRowsDoNotDependOnEachOther() throws {
    var generator = SeededGenerator()
    let hessian = Self.correlated(96, using: &generator)
    let scheme = try #require(QuantizationScheme(bits: 6, isSymmetric: true, granularity: .perChannel))
    try withWeight(randomWeights(80 * 96, using: &generator), shape: [80, 96]) { view in
      let quantizer = try WeightQuantizer(
        TransformedRows(view: view), scheme: scheme, rounding: GPTQ().fitted(to: Self.moments(hessian, 96)))
      let whole = try quantizer.quantize(rows: 0..<80)
      let parts = try [64..<80, 0..<32, 32..<64].map { ($0, try quantizer.quantize(rows: $0)) }
      for (range, part) in parts {
        #expect(part.values == Array(whole.values[range.lowerBound * 96..<range.upperBound * 96]))
      }
    }
  }

  /// Nothing to make up for: channels that do not depend on each other, and a site that no token reaches.
  @Test func withoutCorrelationItIsNearest() throws {
    var generator = SeededGenerator()
    let weights = randomWeights(20 * 40, using: &generator)
    let scheme = try #require(QuantizationScheme(bits: 5, isSymmetric: true, granularity: .perChannel))
    try withWeight(weights, shape: [20, 40]) { view in
      let nearest = try WeightQuantizer(TransformedRows(view: view), scheme: scheme).quantize(rows: 0..<20)
      let diagonal = (0..<1600).map { $0 / 40 == $0 % 40 ? Double($0 % 7) : 0 }
      for hessian in [diagonal, [Double](repeating: 0, count: 1600)] {
        let rows = try Self.rounded(view, scheme, GPTQ(), Self.moments(hessian, 40))
        #expect(rows.values == nearest.values && rows.scales == nearest.scales)
        #expect(abs(rows.statistics.squaredError / nearest.statistics.squaredError - 1) < 1e-5)
        #expect(rows.statistics.count == 800)
      }
      // One direction alone, and more outliers than float32 holds: still values of the scheme.
      for power in [0.0, 30] {
        let hessian = (0..<1600).map { (pow10(power * Double($0 / 40 % 2)) * pow10(power * Double($0 % 40 % 2))) }
        let rows = try Self.rounded(view, scheme, GPTQ(), Self.moments(hessian, 40))
        #expect(rows.values.allSatisfy { (1...31).contains($0) })
      }
    }
  }

  @Test func refusals() throws {
    func rule(_ body: () throws -> some Any) -> String? { #expect(throws: Refusal.self) { try body() }?.rule }
    #expect(rule { try GPTQ().fitted(to: SiteObservations()) } == "rounding-moments")
    #expect(rule { try GPTQ().fitted(to: Self.moments([.nan], 1)) } == "rounding-moments")
    #expect(rule { try GPTQ().fitted(to: Self.moments([1, 9, 9, 1], 2)) } == "rounding-moments")
    #expect(rule { try Roundings.rule("gptp") } == "rounding-unknown")
    #expect(rule { try Roundings.rule("gptq,damping=0") } == "method-option")
    #expect(rule { try Roundings.rule("nearest,actorder=true") } == "method-option")
    #expect(rule { try Roundings.rule("gptq,passes=-1") } == "method-option")
    let rule = try #require(try Roundings.rule("gptq,actorder=false,damping=0.1,passes=3") as? GPTQ)
    #expect(!rule.isOrdered && rule.damping == 0.1 && rule.passCount == 3 && rule.record["passes"] == .integer(3))
  }
}

private func pow10(_ exponent: Double) -> Double { (0..<Int(exponent)).reduce(1) { value, _ in value * 10 } }
