import OTCheckpoint
import OTConversion
import OTJSON
import OTRuntime
import OTTensor
import OTTokenizer

/// Cosines between the sentence embeddings of packed files and of the float32
/// model they are made of.
struct SentenceAccuracy {
  private struct Row {
    let file: AccuracyScheme.File
    let mean: Double
    let minimum: Double
  }

  private let rows: [Row]
  private let sentenceCount: Int

  /// Embeds the sentences with all models.
  ///
  /// - Throws: `Refusal` where a model cannot be run.
  init(checkpoint: Checkpoint, files: [AccuracyScheme.File], sentences: [String], threads: Int) throws {
    let graph = try checkpoint.graph()
    guard let tokenizer = try checkpoint.tokenizer() else {
      throw Refusal("tokenizer-missing", "has no tokenizer.json", file: checkpoint.files.first?.path)
    }
    let around = tokenizer.specialTokens
    let room = min(graph.contextLength ?? .max, 256) - around.leading.count - around.trailing.count
    let tokens = sentences.map { sentence in
      around.leading + tokenizer.encode(sentence, addSpecialTokens: false).prefix(max(room, 1)) + around.trailing
    }
    try Calibration.check(tokens, graph, file: nil)
    let reference = try FloatExecutor(
      graph: graph, parameters: CheckpointParameters(checkpoint.tensors), threadCount: threads, cachesParameters: true)
    let expected = try SentenceAccuracy.embeddings(of: tokens, reference)
    rows = try files.map { file in
      let packed = try PackedFile(path: file.path)
      guard let graph = packed.graph else { throw Refusal("run-no-graph", "has no graph", file: file.path) }
      let executor = try QuantizedExecutor(graph: graph, container: packed.container, threadCount: threads)
      let cosines = zip(try SentenceAccuracy.embeddings(of: tokens, executor), expected).map(SentenceAccuracy.cosine)
      return Row(
        file: file, mean: cosines.reduce(0, +) / Double(cosines.count), minimum: cosines.min() ?? .nan)
    }
    sentenceCount = sentences.count
  }

  /// Means over the tokens; cosines do not depend on their length.
  private static func embeddings(of sentences: [[Int]], _ executor: some Executor) throws -> [[Float]] {
    try stride(from: 0, to: sentences.count, by: 16).flatMap { start in
      let batch = sentences[start..<min(start + 16, sentences.count)].map { TokenSequence($0) }
      return try executor.run(batch, observe: nil).map { result in
        let hidden = try result.output("hidden")
        return (0..<hidden.channelCount).map { channel in
          (0..<hidden.rowCount).reduce(Float(0)) { $0 + hidden.values[$1 * hidden.channelCount + channel] }
        }
      }
    }
  }

  private static func cosine(_ a: [Float], _ b: [Float]) -> Double {
    func product(_ a: [Float], _ b: [Float]) -> Double { zip(a, b).reduce(0) { $0 + Double($1.0) * Double($1.1) } }
    return product(a, b) / (product(a, a) * product(b, b)).squareRoot()
  }

  func table(sourceByteCount: Int) -> String {
    var lines = [
      "\(sentenceCount) sentences", "",
      "| weights, activations | method | cosine, mean | cosine, minimum | file MB |",
      "| --- | --- | ---: | ---: | ---: |",
      "| float32 | – | 1 | 1 | \(number(Double(sourceByteCount) / 1e6, 1)) |",
    ]
    lines += rows.map { row in
      "| \(row.file.scheme.name) | \(row.file.scheme.activations.rawValue) | \(number(row.mean, 5)) "
        + "| \(number(row.minimum, 5)) | \(number(Double(row.file.byteCount) / 1e6, 1)) |"
    }
    return lines.joined(separator: "\n")
  }

  func json(sourceByteCount: Int) -> JSONObject {
    [
      "sentences": .integer(sentenceCount), "floatByteCount": .integer(sourceByteCount),
      "schemes": .array(
        rows.map { row in
          .object([
            "scheme": .string(row.file.scheme.name), "activations": .string(row.file.scheme.activations.rawValue),
            "cosineMean": .number(row.mean), "cosineMinimum": .number(row.minimum),
            "byteCount": .integer(row.file.byteCount),
          ])
        }),
    ]
  }
}
