import OTConversion
import OTFoundation
import OTGraph
import OTKernels
import OTModel
import OTObservation
import OTQuantization
import OTTensor
import Testing
import _OTModelSupport
import _OTTestSupport

/// The search for ranges of weights: against the authors' program, and against every point tried by hand.
@Suite struct ClippingTests {
  private static func moments(_ rows: [[Float]]) -> SiteObservations {
    let n = rows.first?.count ?? 0
    var products = [Double](repeating: 0, count: n * n)
    for row in rows {
      for i in 0..<n where row[i] != 0 {
        for j in 0..<n { products[i * n + j] += Double(row[i]) * Double(row[j]) }
      }
    }
    var observed = SiteObservations()
    observed.moments = SecondMoments(
      rowCount: rows.count, sums: [Double](repeating: 0, count: n), products: products)
    return observed
  }

  private static func limits(
    _ search: ClipSearch, _ weights: [Float], _ columnCount: Int, _ scheme: QuantizationScheme
  ) throws -> [Float] {
    // As many rows at a time as a quantizer gives.
    try stride(from: 0, to: weights.count, by: 16 * columnCount).flatMap { start in
      let part = Array(weights[start..<min(start + 16 * columnCount, weights.count)])
      return try part.withUnsafeBufferPointer {
        try #require(
          search.limits(
            WeightRows(
              rowCount: part.count / columnCount, columnCount: columnCount, values: $0, scheme: scheme,
              kernels: .current)))
      }
    }
  }

  /// The second layer's weights but for queries and keys, with the authors' scales and on every eighth token.
  @Test(arguments: Fixture.decoders) func limitsAreTheAuthors(_ fixture: Fixture) throws {
    let setting = try MethodSetting.of(fixture)
    for (tag, granularity) in [
      ("w4_ch", QuantizationScheme.Granularity.perChannel), ("w4_g32", .perGroup(size: 32)),
    ] {
      let scheme = try #require(QuantizationScheme(bits: 4, isSymmetric: false, granularity: granularity))
      for (place, site) in setting.sites where place.hasPrefix("layers.1") {
        let key = "awq/\(tag)/\(place)/scale"
        let scale = try setting.goldens.dimensions(key).map { _ in try setting.goldens.floats(key) }
        let transform = ChannelTransform(scale: scale)
        let kept = try #require(setting.observed[site].transformed(by: transform).rows)
        let rows = stride(from: 0, to: kept.places.count, by: 8).map {
          Array(kept.values[$0 * kept.channelCount..<($0 + 1) * kept.channelCount])
        }
        let search = try ClipSearch(Self.moments(rows))
        for linear in site.consumers {
          let golden = "awq/\(tag)/\(linear)/clip_max"
          #expect((setting.goldens.dimensions(golden) == nil) == setting.graph.givesScores(linear), "\(linear)")
          guard setting.goldens.dimensions(golden) != nil else { continue }
          let use = try #require(setting.graph.parameterUses(of: linear).first)
          let tensor = try #require(use.tensor)
          let view = try #require(setting.source.checkpoint[tensor.name])
          let weights = try TransformedRows(view: view, input: transform).values(rows: 0..<view.shape.rowCount)
          // Scales of the next site have gone into the rows of what gives it.
          let behind =
            linear.hasSuffix("v_proj")
            ? "attn_out" : linear.hasSuffix("fc1") || linear.hasSuffix("up_proj") ? "ffn_out" : ""
          let rowScale = try? setting.goldens.floats("awq/\(tag)/layers.1.\(behind)/scale")
          var expected = try setting.goldens.floats(golden)
          let groupCount = scheme.groupCount(columnCount: site.size)
          if let rowScale { for index in expected.indices { expected[index] *= rowScale[index / groupCount] } }
          let got = try Self.limits(search, weights, site.size, scheme)
          try #require(got.count == expected.count)
          let same = zip(got, expected).count { abs($0 / $1 - 1) < 1e-4 }
          // Points beside each other may be as good to float32.
          #expect(Double(same) >= 0.9 * Double(expected.count), "\(tag) \(linear): \(same) of \(expected.count)")
        }
      }
    }
  }

  /// With the plainest loops in float64, a short last group and a dead row included.
  @Test(arguments: [true, false]) func limitsAreTheLeast(isSymmetric: Bool) throws {
    var generator = SeededGenerator()
    let (rowCount, n, size) = (20, 72, 32)
    var weights = (0..<rowCount * n).map { _ in
      Float.random(in: -1...1, using: &generator) * (Int.random(in: 0..<12, using: &generator) == 0 ? 3 : 1)
    }
    for column in 0..<n { weights[5 * n + column] = 0 }
    let rows = (0..<100).map { _ -> [Float] in
      let common = Float.random(in: -1...1, using: &generator)
      return (0..<n).map { _ in common + Float.random(in: -1...1, using: &generator) }
    }
    let scheme = try #require(
      QuantizationScheme(bits: 3, isSymmetric: isSymmetric, granularity: .perGroup(size: size)))
    let got = try Self.limits(ClipSearch(Self.moments(rows)), weights, n, scheme)
    var clippedCount = 0
    for row in 0..<rowCount {
      for group in 0..<3 {
        let columns = group * size..<min((group + 1) * size, n)
        let part = columns.map { weights[row * n + $0] }
        let largest = part.map(abs).max() ?? 0
        // Steps in float32, where the integer for 0 is in the middle of two.
        func error(_ limit: Float) -> Double {
          let (low, high) = (min(0, max(part.min() ?? 0, -limit)), max(0, min(part.max() ?? 0, limit)))
          let step = isSymmetric ? max(high, -low) / 3 : (high - low) / 7
          guard step > 0 else { return 0 }
          let zero = isSymmetric ? 4 : (-low / step).rounded(.toNearestOrEven)
          let errors = part.map { weight -> Double in
            let code = min(max((weight / step).rounded(.toNearestOrEven) + zero, isSymmetric ? 1 : 0), 7)
            return Double(weight) - Double(step) * Double(code - zero)
          }
          return rows.reduce(0) { sum, x in
            let product = zip(errors, columns).reduce(0) { $0 + $1.0 * Double(x[$1.1]) }
            return sum + product * product
          }
        }
        let grid = (0..<10).map { error(largest * (1 - Float($0) / 20)) }
        let limit = got[row * 3 + group]
        if limit < largest * 0.99 { clippedCount += 1 }
        #expect(error(limit) <= (grid.min() ?? 0) * 1.001 + 1e-9, "\(row) \(group), seed \(generator.seed)")
      }
    }
    #expect(clippedCount > 10)
  }

  @Test func stepsAreThoseOfTheLimits() throws {
    let weights = (0..<31).map { _ in 1.0 } + [9]
    let scheme = try #require(QuantizationScheme(bits: 4, isSymmetric: true, granularity: .perChannel))
    let observed = Self.moments((0..<16).map { row in (0..<16).map { $0 == row && $0 < 15 ? 1 : 0 } })
    try withWeight(weights, shape: [2, 16]) { view in
      for rounding in [try ClippedRounding().fitted(to: observed), try GPTQ(clips: true).fitted(to: observed)] {
        let rows = try WeightQuantizer(TransformedRows(view: view), scheme: scheme, rounding: rounding)
          .quantize(rows: 0..<2)
        // The last channel is never seen. Of steps c/7 that of c = 9·0.8 is nearest to 1.
        #expect(abs(rows.scales[0] - 1 / 7) < 1e-7 && abs(rows.scales[1] - 7.2 / 7) < 1e-6 && rows.values[31] == 15)
        let plain = try WeightQuantizer(TransformedRows(view: view), scheme: scheme, rounding: rounding.unclipped)
          .quantize(rows: 0..<2)
        #expect(abs(plain.scales[1] - 9 / 7) < 1e-6)
      }
      let whole = try #require(QuantizationScheme(bits: 4, isSymmetric: true, granularity: .perTensor))
      let rows = try WeightQuantizer(
        TransformedRows(view: view), scheme: whole, rounding: ClippedRounding().fitted(to: observed)
      ).quantize(rows: 0..<2)
      #expect(rows.scales.count == 1 && abs(rows.scales[0] - 9 / 7) < 1e-6)
    }
    let refusal = #expect(throws: Refusal.self) { try ClippedRounding().fitted(to: SiteObservations()) }
    #expect(refusal?.rule == "rounding-moments")
    #expect(try Roundings.rule("clip").kind == .clipped && Roundings.rule("gptq,clip=true").kind == .gptq)
  }
}
