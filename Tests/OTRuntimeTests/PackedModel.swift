import Foundation
import OTCheckpoint
import OTContainer
import OTConversion
import OTFoundation
import OTGraph
import OTJSON
import OTObservation
import OTRuntime
import Testing
import _OTTestSupport

/// How a fixture is converted.
enum ConversionMethod: String, CaseIterable, Sendable {
  case perToken = "per-token activations"
  case outlierTuneWithoutSymmetrization = "OutlierTune without symmetrization"
  case outlierTune = "OutlierTune"

  func statistics(_ folder: String) -> ForeignStatistics? {
    switch self {
    case .perToken: nil
    case .outlierTuneWithoutSymmetrization: ForeignStatistics(scales: folder + "/act_scales.pt")
    case .outlierTune:
      ForeignStatistics(
        scales: folder + "/act_scales_sym.pt", symmetrizations: folder + "/symmetrizations.pt",
        sampleCount: 32)
    }
  }
}

/// A fixture: one of the small trained decoders, with its reference values.
struct DecoderFixture: Sendable {
  static let families = ["opt", "bloom", "llama"]

  let folder: String
  let checkpoint: Checkpoint
  private let goldens: Checkpoint

  init(_ family: String) throws {
    folder = Fixtures.path("models/\(family)-mini")
    let file = family == "bloom" ? "model.safetensors.index.json" : "model.safetensors"
    checkpoint = try Checkpoint.open("\(folder)/\(file)")
    goldens = try Checkpoint.open("\(folder)/goldens.safetensors")
  }

  /// Converts and gives the opened file, which stays mapped when it is gone.
  func packed(
    _ method: ConversionMethod?, _ change: (inout ConversionOptions) -> Void = { _ in }
  ) throws -> PackedFile {
    var options = ConversionOptions()
    options.embeddingBits = 16
    options.isWeightsOnly = method == nil
    options.threadCount = 2
    change(&options)
    let plan = try ConversionPlan(
      checkpoint: checkpoint, options: options, statistics: method?.statistics(folder))
    return try withTemporaryFolder { temporary in
      try Converter(plan).run(to: temporary + "/model.otq")
      return try PackedFile(path: temporary + "/model.otq")
    }
  }

  func executor(
    _ method: ConversionMethod?, attentionBits: Int? = nil, _ change: (inout ConversionOptions) -> Void = { _ in }
  ) throws -> QuantizedExecutor {
    let file = try packed(method, change)
    return try QuantizedExecutor(
      graph: #require(file.graph), container: file.container, threadCount: 2, attentionBits: attentionBits)
  }

  /// The checkpoint itself, in float.
  func floatExecutor() throws -> FloatExecutor {
    let graph = try Families.graph(
      configuration: checkpoint.attachments.json(.configuration),
      tensors: TensorCatalog(checkpoint.tensors, file: folder))
    return try FloatExecutor(
      graph: graph, parameters: CheckpointParameters(checkpoint.tensors), threadCount: 2,
      cachesParameters: true)
  }

  func integers(_ name: String) throws -> [Int] {
    let tensor = try #require(goldens[name])
    return tensor.withRowBytes(0..<tensor.shape.rowCount) { bytes in
      (0..<bytes.count / 8).map { Int(bytes.loadUnaligned(fromByteOffset: $0 * 8, as: Int64.self)) }
    }
  }

  func floats(_ name: String) throws -> [Float] {
    let tensor = try #require(goldens[name])
    return tensor.withRowBytes(0..<tensor.shape.rowCount) { bytes in
      (0..<bytes.count / 4).map { bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) }
    }
  }

  /// The two sequences of 96 tokens behind the golden logits.
  func goldenSequences() throws -> [[Int]] {
    let ids = try integers("input_ids")
    return [Array(ids[..<96]), Array(ids[96...])]
  }

  /// Logits of both golden sequences, one after the other.
  func goldenLogits(of executor: some Executor) throws -> [Float] {
    try goldenSequences().flatMap { try executor.run(tokenIDs: $0).output("logits").values }
  }

  /// Perplexity over the 40 windows of 128 tokens that the references are of.
  func perplexity(of executor: some Executor) throws -> Double {
    let ids = try integers("test_ids")
    var likelihood = TokenLikelihood()
    for window in 0..<40 {
      let tokens = Array(ids[128 * window..<128 * (window + 1)])
      let logits = try executor.run(tokenIDs: tokens).output("logits")
      try likelihood.add(logits: logits, tokenIDs: tokens, threadCount: 2)
    }
    return try #require(likelihood.perplexity)
  }

  func referencePerplexity(_ name: String) throws -> Double {
    let json = try JSONValue.parse(contentsOf: MappedFile(path: folder + "/reference.json"))
    return try #require(json["ppl"]?[name]?.double)
  }
}

func writeFile(_ bytes: [UInt8], to path: String) throws {
  try Data(bytes).write(to: URL(fileURLWithPath: path))
}
