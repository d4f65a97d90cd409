import OTConversion
import OTExport
import OTModel
import OTObservation
import OTQuantization
import Testing
import _OTTestSupport

/// What unpacking says that it leaves out.
@Suite struct LeftOutTests {
  /// Only the biases that migration gave to linears that had none; explicit shifts and scales are undone.
  @Test(arguments: Fixture.allCases) func onlyWhatIsLostIsNamed(_ fixture: Fixture) throws {
    let source = try fixture.source()
    let samples = (0..<4).map { sample in (0..<40).map { ($0 * 37 + sample * 101) % 1900 + 4 } }
    var settings = Calibration()
    settings.threadCount = 2
    let run = CalibrationRun(texts: [], sampleCount: 4, length: 40, seed: nil)
    let observed = try settings.run(on: source, samples: Calibration.Samples(tokens: samples, run: run))
    try withTemporaryFolder { folder in
      var options = ConversionOptions()
      options.methods = [OutlierTune()]
      let conversion = try Conversion(source, options: options)
      try Converter(conversion.plan(observed)).run(to: folder + "/m.otq")
      let packed = try PackedModel(path: folder + "/m.otq")
      // Symmetrized it is: there are shifts.
      #expect(packed.graph?.transforms.values.contains { $0.shift != nil } == true)
      let leftOut = PackedExport(packed, isRestored: true).leftOut
      #expect(leftOut.allSatisfy { $0.hasSuffix("_proj.bias") }, "\(leftOut)")
      #expect(leftOut.isEmpty == (fixture != .llama), "\(leftOut)")
    }
  }
}
