import OTFoundation
import OTJSON
import OTModel
import OTRuntime
import OTText

/// Perplexity of packed files beside that of the float32 model they are made of.
struct LanguageAccuracy {
  private struct Row {
    let file: AccuracyScheme.File
    let executor: QuantizedExecutor
    var likelihood = TokenLikelihood()
    var comparison = DistributionComparison()
    var seconds = 0.0
  }

  private let reference: FloatExecutor
  private var likelihood = TokenLikelihood()
  private var seconds = 0.0
  private var rows: [Row]
  private let windows: [[Int]]
  private let threads: Int
  private let fixture: SimulatedFixture?

  /// Loads all models.
  ///
  /// - Parameter fixture: whose perplexities stand beside these.
  /// - Throws: `Refusal` where a model cannot be run.
  init(
    source: SourceModel, files: [AccuracyScheme.File], windows: [[Int]], fixture: SimulatedFixture?, threads: Int
  ) throws {
    let graph = try source.graph()
    try TextSamples.check(windows, vocabularySize: graph.vocabularySize, file: nil)
    self.windows = windows
    self.fixture = fixture
    reference = try FloatExecutor(
      graph: graph, parameters: source.parameters, threadCount: threads, cachesParameters: true)
    rows = try files.map { file in
      let packed = try PackedModel(path: file.path)
      guard let graph = packed.graph else { throw Refusal("run-no-graph", "has no graph", file: file.path) }
      return Row(
        file: file,
        executor: try QuantizedExecutor(graph: graph, container: packed.container, threadCount: threads))
    }
    self.threads = threads
  }

  /// Runs all models on window after window: the logits of one window are all that is kept.
  mutating func measure(_ progress: (Int, Int) -> Void) throws {
    for (index, window) in windows.enumerated() {
      var start = ContinuousClock.now
      let expected = try reference.run(tokenIDs: window).output("logits")
      seconds += (ContinuousClock.now - start) / .seconds(1)
      try likelihood.add(logits: expected, tokenIDs: window, threadCount: threads)
      for row in rows.indices {
        start = ContinuousClock.now
        let logits = try rows[row].executor.run(tokenIDs: window).output("logits")
        rows[row].seconds += (ContinuousClock.now - start) / .seconds(1)
        try rows[row].likelihood.add(logits: logits, tokenIDs: window, threadCount: threads)
        try rows[row].comparison.add(logits: logits, reference: expected, threadCount: threads)
      }
      progress(index + 1, windows.count)
    }
  }

  // MARK: Report

  private var tokenCount: Int { windows.reduce(0) { $0 + $1.count } }

  func table(sourceByteCount: Int) -> String {
    var lines = [
      "\(windows.count) windows of \(windows.first?.count ?? 0) tokens, \(likelihood.losses.count) predicted", "",
      "| weights, activations | method | perplexity "
        + (fixture == nil ? "" : "| simulated ")
        + "| ratio to float | KL mean, nats | top-1 the same | bits/weight of linears | file MB "
        + "| tokens/s |",
      "| --- | --- | ---: " + (fixture == nil ? "" : "| ---: ") + "| ---: | ---: | ---: | ---: | ---: | ---: |",
      "| float32 | – | \(fixed(likelihood.perplexity ?? .nan, 3)) \(simulated(nil))| 1 | 0 | 100 % | – "
        + "| \(fixed(Double(sourceByteCount) / 1e6, 1)) | \(fixed(Double(tokenCount) / seconds, 0)) |",
    ]
    for row in rows {
      let ratio = row.likelihood.perplexityRatio(to: likelihood)
      lines.append(
        "| \(row.file.scheme.name) | \(row.file.scheme.method) "
          + "| \(fixed(row.likelihood.perplexity ?? .nan, 3)) \(simulated(row.file.scheme))"
          + "| \(fixed(ratio?.ratio ?? .nan, 4)) ± \(fixed(ratio?.standardError ?? .nan, 4)) "
          + "| \(fixed(row.comparison.mean ?? .nan, 4)) | \(fixed((row.comparison.agreement ?? .nan) * 100, 1)) % "
          + "| \(fixed(row.file.bitsPerWeight, 3)) "
          + "| \(fixed(Double(row.file.byteCount) / 1e6, 1)) | \(fixed(Double(tokenCount) / row.seconds, 0)) |")
    }
    return lines.joined(separator: "\n")
  }

  private func simulated(_ scheme: AccuracyScheme?) -> String {
    guard let fixture else { return "" }
    return "| " + (fixture.perplexity(scheme).map { fixed($0, 3) } ?? "–") + " "
  }

  func json(sourceByteCount: Int) -> JSONObject {
    return [
      "windows": .integer(windows.count), "predictedTokenCount": .integer(likelihood.losses.count),
      "float": .object([
        "perplexity": .finite(likelihood.perplexity), "byteCount": .integer(sourceByteCount),
        "tokensPerSecond": .finite(Double(tokenCount) / seconds),
      ]),
      "schemes": .array(
        rows.map { row in
          let ratio = row.likelihood.perplexityRatio(to: likelihood)
          return .object([
            "scheme": .string(row.file.scheme.name), "method": .string(row.file.scheme.method),
            "perplexity": .finite(row.likelihood.perplexity), "perplexityRatio": .finite(ratio?.ratio),
            "perplexityRatioStandardError": .finite(ratio?.standardError), "klMean": .finite(row.comparison.mean),
            "simulatedPerplexity": .finite(fixture?.perplexity(row.file.scheme)),
            "top1Agreement": .finite(row.comparison.agreement), "byteCount": .integer(row.file.byteCount),
            "linearBitsPerWeight": .number(row.file.bitsPerWeight),
            "tokensPerSecond": .finite(Double(tokenCount) / row.seconds),
          ])
        }),
    ]
  }
}
