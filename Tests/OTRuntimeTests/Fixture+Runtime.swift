import Foundation
import OTConversion
import OTFoundation
import OTJSON
import OTModel
import OTRuntime
import Testing
import _OTModelSupport
import _OTTestSupport

extension Fixture {
  /// The model, converted as the simulations behind its goldens have it: with embeddings of float16.
  func simulated(
    _ method: FixtureMethod?, _ change: (inout ConversionOptions) -> Void = { _ in }
  ) throws -> PackedModel {
    try packed(method) {
      $0.embeddingBits = 16
      change(&$0)
    }
  }

  func executor(
    _ method: FixtureMethod?, attentionBits: Int? = nil, _ change: (inout ConversionOptions) -> Void = { _ in }
  ) throws -> QuantizedExecutor {
    let file = try simulated(method, change)
    return try QuantizedExecutor(
      graph: #require(file.graph), container: file.container, threadCount: 2, attentionBits: attentionBits)
  }

  /// Logits of both golden sequences, one after the other.
  func goldenLogits(of executor: some Executor) throws -> [Float] {
    try goldenSequences().flatMap { try executor.run(tokenIDs: $0).output("logits").values }
  }

  /// Perplexity over the 40 windows of 128 tokens that the references are of.
  func perplexity(of executor: some Executor) throws -> Double {
    let ids = try goldens().integers("test_ids")
    var likelihood = TokenLikelihood()
    for window in 0..<40 {
      let tokens = Array(ids[128 * window..<128 * (window + 1)])
      let logits = try executor.run(tokenIDs: tokens).output("logits")
      try likelihood.add(logits: logits, tokenIDs: tokens, threadCount: 2)
    }
    return try #require(likelihood.perplexity)
  }

  func referencePerplexity(_ name: String) throws -> Double {
    let json = try JSONValue.parse(contentsOf: MappedFile(path: path("reference.json")))
    return try #require(json["ppl"]?[name]?.double)
  }
}
