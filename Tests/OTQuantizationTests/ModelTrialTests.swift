import OTConversion
import OTGraph
import OTObservation
import OTQuantization
import OTRuntime
import OTTensor
import Testing
import _OTModelSupport
import _OTTestSupport

/// Ratios of token-wise clipping, which the whole model decides about.
@Suite struct ModelTrialTests {
  private static func conversion(_ setting: MethodSetting, _ methods: [String]) throws -> Conversion {
    var options = ConversionOptions()
    options.bits = 8
    options.isSymmetric = true
    options.methods = try methods.map(Methods.method)
    options.threadCount = 2
    return try Conversion(setting.source, options: options, statistics: setting.observed)
  }

  private static func samples(_ setting: MethodSetting) throws -> [[Int]] {
    let file = try setting.fixture.goldens()
    return try (0..<32).map { try file.integers("calibration_ids", row: $0) }
  }

  /// Kept rows are as large as the values of a model: they would be there while weights are rounded.
  @Test func plansKeepTheOriginOfObservationsAlone() throws {
    let setting = try MethodSetting.of(.opt)
    let known = try #require(try Self.conversion(setting, ["smoothquant"]).plan().calibration)
    #expect(!setting.observed.sites.isEmpty && known.sites.isEmpty)
    #expect(known.runs == setting.observed.runs && known.family == setting.observed.family)
  }

  /// The reference's loss of the fully quantized model on the calibration set.
  @Test(arguments: Fixture.allCases) func lossesAreTheReferences(_ fixture: Fixture) throws {
    let setting = try MethodSetting.of(fixture)
    let grid = try setting.goldens.floats("os/twc_w8a8/grid_loss")
    let trial = try ModelTrial(
      of: setting.graph, setting.source.parameters, samples: Self.samples(setting).map { TokenSequence($0) },
      threadCount: 2)
    let step = fixture == .bert ? 0.01 : 0.005
    let least = try #require(grid.indices.min { grid[$0] < grid[$1] })
    var losses: [Double] = []
    for index in [0, least] {
      let plan = try Self.conversion(
        setting, ["os,ratio=\(1 - Double(index) * step),rows=4096"]
      ).plan()
      let loss = try trial.loss(of: #require(plan.graph), weights: plan.recipe.weights)
      losses.append(loss)
      // Of BERT the reference averages over other values.
      guard fixture != .bert else { continue }
      #expect(abs(loss / Double(grid[index]) - 1) < 1e-3, "\(fixture) \(index): \(loss), golden \(grid[index])")
    }
    if fixture == .bert {
      let golden = Double(grid[least] / grid[0])
      #expect(abs(losses[1] / losses[0] / golden - 1) < 0.05, "\(losses[1] / losses[0]), golden \(golden)")
    }
  }

  /// The first with the least loss takes the place of a method that leaves it open, the others stay.
  @Test func theLeastLossDecides() throws {
    let setting = try MethodSetting.of(.llama)
    let tokens = try Array(Self.samples(setting)[..<4])
    let run = CalibrationRun(texts: [], sampleCount: 4, length: 128, seed: nil)
    var calibration = Calibration()
    calibration.threadCount = 2
    let text = "os,search=true,step=0.1,tries=4,rows=4096"
    let conversion = try Self.conversion(setting, ["os,gamma=false", text])
    #expect(conversion.comparesOnText)
    let options = try calibration.settling(
      conversion, setting.observed, samples: Calibration.Samples(tokens: tokens, run: run))
    let chosen = try #require(options.methods.last as? OutlierSuppression)
    let trial = try ModelTrial(
      of: setting.graph, setting.source.parameters, samples: tokens.map { TokenSequence($0) }, threadCount: 2)
    let losses = try [1, 0.9, 0.8, 0.7].map { ratio in
      let plan = try Self.conversion(setting, ["os,gamma=false", "os,ratio=\(ratio),rows=4096"]).plan()
      return (ratio, try trial.loss(of: #require(plan.graph), weights: plan.recipe.weights))
    }
    let best = try #require(losses.min { $0.1 < $1.1 })
    #expect(abs(chosen.ratio - best.0) < 1e-9 && chosen.candidates.isEmpty && chosen.rowCount == 4096)
    #expect(options.methods.count == 2 && (options.methods[0] as? OutlierSuppression)?.migratesGamma == false)
    let fixed = try Self.conversion(setting, ["os,ratio=0.9,rows=4096"])
    #expect(!fixed.comparesOnText)
  }
}
