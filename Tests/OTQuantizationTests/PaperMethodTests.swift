import OTConversion
import OTGraph
import OTModel
import OTObservation
import OTQuantization
import OTTensor
import Testing
import _OTModelSupport
import _OTTestSupport

/// FPTQ, AWQ, and SmoothQuant with static ranges and a search, against other programs.
@Suite struct PaperMethodTests {
  @Test(arguments: Fixture.allCases) func logarithmicScalesAndPolicyAreTheReferences(_ fixture: Fixture) throws {
    let setting = try MethodSetting.of(fixture)
    let all = try Methods.method("fptq,all-norms=true")
    let policy = try Methods.method("fptq")
    for (name, site) in setting.sites {
      let context = setting.context(site, bits: 8, isSymmetric: true)
      if site.isNormFed {
        let plan = try all.plan(context)
        let scale = try setting.goldens.floats("fptq/lae/\(name)/scale")
        let range = try context.range(after: ChannelTransform(scale: scale))
        let step = range.step(bits: 8, isSymmetric: true).scale
        #expect(largestRatio(try #require(plan.transform.scale), scale.map { $0 * step }) < 2e-5, "\(name)")
      }
      let plan = try policy.plan(context)
      let expected = try #require(setting.facts["fptqPolicy"]?[name]?.string)
      let scales = Set(plan.transform.scale ?? [])
      switch expected {
      case "static": #expect(plan.activation == .static(bits: 8, zero: 0) && scales.count == 1, "\(name)")
      case "lae": #expect(plan.activation == .static(bits: 8) && scales.count > 1, "\(name)")
      default: #expect(expected == "token" && plan.activation == .dynamic(bits: 8) && scales.isEmpty, "\(name)")
      }
    }
  }

  @Test(arguments: Fixture.allCases) func fptqScoresAreTheReferences(_ fixture: Fixture) throws {
    let setting = try MethodSetting.of(fixture)
    try setting.expect(
      setting.score(["fptq,all-norms=true"], bits: 6), "fptq", "lae_all_norms_w6a6", within: 0.002)
    let groups = try setting.score(
      ["fptq"], bits: 4, activationBits: 8, granularity: .perGroup(size: 32))
    try setting.expect(groups, "fptq", "policy_w4a8_g32", within: 0.002)
  }

  /// Every grid of the reference, at its points.
  @Test(arguments: Fixture.allCases) func searchedExponentsAreTheReferences(_ fixture: Fixture) throws {
    let setting = try MethodSetting.of(fixture)
    for (name, bits, form) in [("w8a8_static", 8, "symmetric"), ("w6a6_static", 6, "asymmetric")] {
      for (place, site) in setting.sites where site.isNormFed && place.hasPrefix("layers.1") {
        let context = setting.context(site, bits: bits, isSymmetric: form == "symmetric", hasRows: false)
        let key = "smoothquant_search/\(name)/\(place)"
        let grid = try setting.goldens.floats("\(key)/grid_loss")
        let least = try #require(grid.min())
        for index in [0, 10, 20] {
          let method = try Methods.method("smoothquant,norms-only=true,activations=\(form),alpha=\(Double(index) / 20)")
          let error = try context.trial.error(of: method.plan(context)).squaredError / 1024
          #expect(abs(error / Double(grid[index]) - 1) < 3e-3, "\(key) \(index): \(error), golden \(grid[index])")
        }
        let plan = try Methods.method("smoothquant,norms-only=true,activations=\(form),search=true").plan(context)
        let chosen = try context.trial.error(of: plan).squaredError / 1024
        #expect(chosen <= 1.003 * Double(least), "\(key): \(chosen), golden \(least)")
      }
    }
  }

  /// Where the error is that of the authors' program: everything of OPT and LLaMA.
  @Test(arguments: [Fixture.opt, .llama]) func awqGridsAreTheAuthors(_ fixture: Fixture) throws {
    let setting = try MethodSetting.of(fixture)
    let method = try #require(try Methods.method("awq,samples=32") as? AWQ)
    for (name, site) in setting.sites where name.hasPrefix("layers.1") {
      let context = setting.context(site, bits: 4, isSymmetric: false, hasAllSamples: true)
      let key = "awq/w4_ch/\(name)"
      guard setting.goldens.dimensions("\(key)/ratio") != nil else {
        #expect(fixture == .llama && name.hasSuffix("attn_out"))
        #expect(try method.plan(context).transform.isIdentity)
        continue
      }
      let grid = try setting.goldens.floats("\(key)/grid_loss")
      let least = try #require(grid.indices.min { grid[$0] < grid[$1] })
      let scales = try method.scales(context)
      #expect(largestRatio(scales[least], try setting.goldens.floats("\(key)/scale")) < 1e-5, "\(name)")
      let count = try Double(4096 * #require(setting.graph.channelCount(of: site.consumers[0])))
      for index in Set([0, 7, 14, least]) {
        let error = try method.error(method.plan(context, scales[index]), context)
        let isModule = name.hasSuffix("in") && !(fixture == .opt && name.hasSuffix("ffn_in"))
        let outputs = isModule ? Double(4096 * 128) : count
        #expect(abs(error / outputs / Double(grid[index]) - 1) < 1e-3, "\(name) \(index)")
      }
    }
  }

  @Test(arguments: [Fixture.opt, .llama]) func awqScoresAreTheAuthors(_ fixture: Fixture) throws {
    let setting = try MethodSetting.of(fixture)
    let score = try setting.score(["awq"], bits: 6, symmetricWeights: false)
    try setting.expect(score, "awq", "w6_ch", within: 0.005)
    let groups = try setting.score(["awq"], bits: 4, symmetricWeights: false, granularity: .perGroup(size: 32))
    try setting.expect(groups, "awq", "w4_g32", within: 0.02)
  }

  @Test(arguments: Fixture.allCases) func smoothQuantScoresAreTheReferences(_ fixture: Fixture) throws {
    let setting = try MethodSetting.of(fixture)
    let searched = try setting.score(
      ["smoothquant,norms-only=true,activations=asymmetric,search=true"], bits: 6, symmetricWeights: false)
    try setting.expect(searched, "smoothquant_search", "w6a6_static", within: 0.005)
  }
}
