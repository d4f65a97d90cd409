import OTConversion
import OTExport
import OTFoundation
import OTGraph
import OTModel
import OTQuantization
import OTRuntime
import OTVerify
import Testing
import _OTModelSupport
import _OTTestSupport

/// Rotated files from conversion to proof.
@Suite struct HadamardMethodTests {
  private static func packed(_ source: SourceModel, _ methods: [String], bits: Int) throws -> PackedModel {
    var options = ConversionOptions()
    options.bits = bits
    options.methods = try methods.map(Methods.method)
    options.threadCount = 2
    return try withTemporaryFolder { folder in
      try Converter(Conversion(source, options: options).plan()).run(to: folder + "/m.otq")
      return try PackedModel(path: folder + "/m.otq")
    }
  }

  /// Mean error of the first outputs against floats, over a golden sequence.
  private static func error(_ file: PackedModel, _ source: SourceModel, _ tokens: [Int]) throws -> Double {
    let packed = try QuantizedExecutor(graph: #require(file.graph), container: file.container, threadCount: 2)
    let float = try FloatExecutor(graph: source.graph(), parameters: source.parameters, threadCount: 2)
    let name = try source.graph().outputs.keys.contains("logits") ? "logits" : "hidden"
    let (got, expected) = (
      try packed.run(tokenIDs: tokens).output(name).values, try float.run(tokenIDs: tokens).output(name).values
    )
    let squares = zip(got, expected).reduce(0.0) { $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1)) }
    return (squares / Double(expected.count)).squareRoot()
  }

  @Test(arguments: Fixture.allCases) func filesVerifyAndUnpack(_ fixture: Fixture) throws {
    let source = try fixture.source()
    let file = try Self.packed(source, ["hadamard,block=32"], bits: 8)
    let graph = try #require(file.graph)
    #expect(graph.sites.allSatisfy { graph.rotation(ofValue: $0.producer) == Rotation(blockSize: 32) })
    let verification = try WeightVerification(of: file, reference: source, threadCount: 2)
    #expect(verification.hasPassed, "\(verification.offenders.prefix(3))")
    try withTemporaryFolder { folder in
      try PackedExport(file, isRestored: true).run(
        into: SafetensorsFileWriter(ExportOutput(path: folder + "/u.safetensors")))
      let unpacked = try SourceModel(path: folder + "/u.safetensors").checkpoint
      for view in source.checkpoint.tensors where view.shape.rank == 2 {
        let got = try TransformedRows(view: #require(unpacked[view.name])).values(rows: 0..<view.shape.rowCount)
        let expected = try TransformedRows(view: view).values(rows: 0..<view.shape.rowCount)
        let largest = expected.reduce(0) { max($0, abs($1)) }
        let worst = zip(got, expected).reduce(Float(0)) { max($0, abs($1.0 - $1.1)) }
        // A rotated row has the norm of the plain one: no weight can be off by more than all steps of a block.
        #expect(worst <= largest * 0.06, "\(view.name): \(worst) of \(largest)")
      }
    }
  }

  /// Outlier channels are spread: what per-token scales lose of the minis, rotation mostly keeps.
  @Test(arguments: Fixture.decoders) func rotationHelpsOutliers(_ fixture: Fixture) throws {
    let source = try fixture.source()
    let tokens = try fixture.goldenSequences()[0]
    let plain = try Self.error(Self.packed(source, ["per-token"], bits: 8), source, tokens)
    let rotated = try Self.error(Self.packed(source, ["hadamard"], bits: 8), source, tokens)
    #expect(rotated < plain * 0.75, "\(rotated), per token \(plain)")
  }
}
