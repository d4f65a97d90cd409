import Foundation
import OTCheckpoint
import OTConversion
import OTModel
import OTRuntime
import Testing
import _OTModelSupport
import _OTTestSupport

/// The float executor against the models' original implementations.
@Suite struct GoldenLogitsTests {
  @Test(arguments: Fixture.allCases)
  func logitsAgreeWithTheOriginalImplementation(_ fixture: Fixture) throws {
    let goldens = try fixture.goldens()
    let executor = try fixture.floatExecutor()
    for row in 0..<2 {
      let tokens = try goldens.integers("input_ids", row: row)
      let logits = try executor.run(tokenIDs: tokens).output("logits")
      #expect(logits.rowCount == 96 && logits.channelCount == 2048)
      let error = relativeError(logits.values, try goldens.floats("logits_fp32", row: row))
      // Float32 sums in another order: far below the 1e-3 that counts as agreement.
      #expect(error < 1e-4, "\(fixture), row \(row): \(error) of the range")
    }
  }

  /// The folder of the real models, which are not part of the repository.
  static let realModels = ProcessInfo.processInfo.environment["OTQ_REAL_MODELS"]

  @Test(.enabled(if: realModels != nil, "OTQ_REAL_MODELS names no folder"))
  func sentenceEmbeddingsOfMiniLMAgree() throws {
    let folder = try #require(Self.realModels)
    let model = try SourceModel(path: folder + "/minilm")
    let executor = try FloatExecutor(
      graph: model.graph(), parameters: model.parameters, threadCount: 2)
    let goldens = try Goldens(path: Fixtures.path("models/minilm-goldens/goldens.safetensors"))
    for row in 0..<9 {
      let tokens = try goldens.integers("input_ids", row: row)
      let mask = try goldens.integers("attention_mask", row: row).map { $0 != 0 }
      let hidden = try executor.run(tokenIDs: tokens, attentionMask: mask).output("hidden")
      let golden = try goldens.floats("last_hidden_state", row: row)
      let width = hidden.channelCount
      // What stands at masked tokens is of no use to anyone.
      let kept = tokens.indices.filter { mask[$0] }
      let error = relativeError(
        kept.flatMap { hidden[$0] }, kept.flatMap { golden[$0 * width..<($0 + 1) * width] })
      #expect(error < 1e-4, "sentence \(row): hidden states differ by \(error) of the range")

      var pooled = [Double](repeating: 0, count: width)
      for token in kept {
        for (channel, value) in hidden[token].enumerated() { pooled[channel] += Double(value) }
      }
      let length = pooled.map { $0 * $0 }.reduce(0, +).squareRoot()
      let embedding = pooled.map { Float($0 / length) }
      let difference = relativeError(embedding, try goldens.floats("embeddings", row: row))
      #expect(difference < 1e-4, "sentence \(row): \(difference) of the range")
    }
  }
}
