import OTFoundation
import OTGraph
import OTModel
import OTObservation
import OTQuantization
import OTRuntime
import Testing
import _OTModelSupport
import _OTTestSupport

/// Methods with one static range for each site, against what the authors' observers chose and scored.
@Suite struct StaticRangeTests {
  /// The codes of the papers' quantizers by hand, and those of shift, scale, round and clamp.
  @Test(arguments: [8, 6, 4], [false, true]) func codesAreThePapers(_ bits: Int, _ isSymmetric: Bool) {
    var generator = SeededGenerator()
    for _ in 0..<50 {
      let range = StaticRange(
        minimum: Float.random(in: -9...1, using: &generator), maximum: Float.random(in: 1...30, using: &generator))
      let transform = range.transform(channelCount: 1, bits: bits, isSymmetric: isSymmetric).channels
      let step = range.step(bits: bits, isSymmetric: isSymmetric)
      for _ in 0..<50 {
        let x = Float.random(in: range.minimum...range.maximum, using: &generator)
        let largest = (1 << bits) - 1
        let code =
          isSymmetric
          ? Int((x / step.scale).rounded(.toNearestOrEven)) + 1 << (bits - 1)
          : min(max(Int((x / step.scale).rounded(.toNearestOrEven)) + step.zeroPoint, 0), largest)
        let integer = ((x - (transform.shift?[0] ?? 0)) / (transform.scale?[0] ?? 1)).rounded(.toNearestOrEven)
        // The shift is rounded: values in the middle between two codes may have either.
        let distance = abs(Int(integer) + 1 << (bits - 1) - code)
        let place = x / step.scale - (x / step.scale).rounded(.down)
        #expect(distance == 0 || (distance == 1 && abs(place - 0.5) < 1e-3), "\(range) \(x)")
      }
    }
  }

  @Test(arguments: Fixture.allCases) func minMaxRangesAreTheAuthors(_ fixture: Fixture) throws {
    let setting = try MethodSetting.of(fixture)
    for (key, text) in [("range", "minmax"), ("range_avg", "minmax,average=true")] {
      let method = try #require(try Methods.method(text) as? MinMax)
      for (name, site) in setting.sites {
        let range = try method.range(setting.context(site, bits: 8, isSymmetric: true))
        let expected = try setting.goldens.floats("minmax/\(key)/\(name)")
        #expect(largestRatio([range.minimum, range.maximum], expected) < 1e-5, "\(key) \(name)")
      }
    }
  }

  /// Channels sorted by their range, in 4 and in 8 groups.
  @Test(arguments: Fixture.allCases, [8, 6]) func groupsOfChannelsAreTheAuthors(_ fixture: Fixture, _ bits: Int) throws
  {
    let setting = try MethodSetting.of(fixture)
    let (half, largest) = (Float(1 << (bits - 1)), Float(1 << bits - 1))
    for (tag, text) in [("k4p", "peg,groups=4"), ("k8p", "peg")] {
      let method = try Methods.method(text)
      for (name, site) in setting.sites where name.hasPrefix("layers.1") {
        let context = setting.context(site, bits: bits, isSymmetric: true)
        let plan = try method.plan(context)
        let scale = try #require(plan.transform.scale)
        guard site.isNormFed else {
          let one = try Methods.method("minmax").plan(context)
          #expect(scale == one.transform.scale && plan.activation == one.activation)
          continue
        }
        #expect(plan.activation == .static(bits: bits))
        let minima = try setting.goldens.floats("peg/\(tag)/\(name)/min")
        let maxima = try setting.goldens.floats("peg/\(tag)/\(name)/max")
        #expect(Set(minima).count == (tag == "k4p" ? 4 : 8))
        let shift = try #require(plan.transform.shift)
        for channel in minima.indices {
          let (low, high) = (min(minima[channel], 0), max(maxima[channel], 1e-8))
          let step = (high - low) / largest
          let zero = min(max((-low / step).rounded(.toNearestOrEven), 0), largest)
          #expect(abs(scale[channel] / step - 1) < 1e-5, "\(tag) \(name) \(channel)")
          #expect(abs(shift[channel] / step - (half - zero)) < 1e-3, "\(tag) \(name) \(channel)")
        }
      }
    }
  }

  /// Weights that are rounded with the groups' steps in their columns cost more than the paper's, unless the errors are
  /// made up for.
  @Test(arguments: [Fixture.opt, .bloom]) func groupsOfChannelsScoreAsTheAuthors(_ fixture: Fixture) throws {
    let setting = try MethodSetting.of(fixture)
    let golden = try setting.golden("peg", "k8p_w6a6")
    let score = try setting.score(["peg"], bits: 6, rounding: GPTQ())
    #expect(score < golden, "\(score), golden \(golden)")
  }

  @Test func groupsThatDoNotDivideAreRefused() throws {
    let setting = try MethodSetting.of(.opt)
    let context = setting.context(setting.sites[0].site, bits: 8, isSymmetric: true)
    let method = try Methods.method("peg,groups=6")
    #expect((#expect(throws: Refusal.self) { try method.plan(context) })?.rule == "method-option")
  }

  @Test(arguments: Fixture.allCases) func percentilesAreTheAuthors(_ fixture: Fixture) throws {
    let setting = try MethodSetting.of(fixture)
    for (tag, p) in [("p999", "0.999"), ("p9999", "0.9999"), ("p99999", "0.99999")] {
      for isAverage in [false, true] {
        let method = try #require(
          try Methods.method("percentile,p=\(p),average=\(isAverage),rows=4096") as? Percentile)
        for (name, site) in setting.sites {
          let range = try method.range(setting.context(site, bits: 8, isSymmetric: true))
          let expected = try setting.goldens.floats("percentile/\(tag)\(isAverage ? "_avg" : "")/range/\(name)")
          // One bin of the histogram, which has 2048 up to the largest magnitude.
          let extremes = try setting.goldens.floats("minmax/range/\(name)")
          let bin = max(-extremes[0], extremes[1]) / 2048
          #expect(abs(range.minimum - expected[0]) < 1.01 * bin, "\(tag) \(name)")
          #expect(abs(range.maximum - expected[1]) < 1.01 * bin, "\(tag) \(name)")
        }
      }
    }
  }

  @Test(arguments: Fixture.allCases) func leastErrorsAreTheAuthors(_ fixture: Fixture) throws {
    let setting = try MethodSetting.of(fixture)
    for bits in [6, 8] {
      for (kind, text) in [("sym", "omse,symmetric=true,rows=4096"), ("asym", "omse,rows=4096")] {
        let method = try #require(try Methods.method(text) as? OMSE)
        for (name, site) in setting.sites {
          let found = try method.search(setting.context(site, bits: bits, isSymmetric: true))
          let key = "omse/\(kind)\(bits)"
          let least =
            kind == "sym"
            ? try #require(try setting.goldens.floats("\(key)/grid_loss/\(name)").min())
            : try setting.goldens.floats("\(key)/mse/\(name)")[0]
          // Many ranges are nearly as good: errors are compared.
          #expect(abs(found.meanSquaredError / Double(least) - 1) < 1e-3, "\(key) \(name)")
        }
      }
    }
  }

  @Test(arguments: Fixture.allCases) func scoresAreTheAuthors(_ fixture: Fixture) throws {
    let setting = try MethodSetting.of(fixture)
    for (method, name, text, bits, tolerance) in [
      ("minmax", "w8a8_sym", "minmax,symmetric=true", 8, 0.0005),
      ("minmax", "w8a8_asym_avg", "minmax,average=true", 8, 0.0005),
      ("percentile", "p999_w6a6", "percentile,rows=4096", 6, 0.002),
      ("omse", "w8a8_asym", "omse,rows=4096", 8, 0.002),
    ] {
      try setting.expect(setting.score([text], bits: bits), method, name, within: tolerance)
    }
  }

  /// One step for a fused matrix: the values' rows must not be divided by the step of what attention gives.
  @Test func oneStepForAFusedMatrix() throws {
    let setting = try MethodSetting.of(.bloom)
    let score = try setting.score(["minmax,symmetric=true"], bits: 8, granularity: .perTensor)
    try setting.expect(score, "minmax", "w8a8_int8star_sym", within: 0.0005)
  }

  /// Files of statistics have ranges alone.
  @Test func whatWasNotObservedIsRefused() throws {
    let setting = try MethodSetting.of(.opt)
    let site = setting.graph.sites[0]
    let known = SiteObservations(ranges: setting.observed[site].ranges)
    for name in ["minmax,average=true", "percentile", "omse", "os,ratio=0.9"] {
      #expect(throws: (any Error).self, "\(name)") {
        try Methods.method(name).plan(site, in: setting.graph, bits: 8, known)
      }
    }
    _ = try Methods.method("minmax").plan(site, in: setting.graph, bits: 8, known)
  }
}
