import OTFoundation
import OTJSON
import OTQ
import OTVerify

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
  init(model: String, files: [AccuracyScheme.File], sentences: [String], threads: Int) throws {
    let expected = try LanguageModel(path: model, threadCount: threads).embed(sentences)
    rows = try files.map { file in
      let found = try LanguageModel(path: file.path, threadCount: threads).embed(sentences)
      let cosines = zip(found, expected).map { cosine($0, $1) }
      return Row(
        file: file, mean: cosines.reduce(0, +) / Double(cosines.count), minimum: cosines.min() ?? .nan)
    }
    sentenceCount = sentences.count
  }

  func table(sourceByteCount: Int) -> String {
    var lines = [
      "\(sentenceCount) sentences", "",
      "| weights, activations | method | cosine, mean | cosine, minimum | file MB |",
      "| --- | --- | ---: | ---: | ---: |",
      "| float32 | – | 1 | 1 | \(fixed(Double(sourceByteCount) / 1e6, 1)) |",
    ]
    lines += rows.map { row in
      "| \(row.file.scheme.name) | \(row.file.scheme.method) | \(fixed(row.mean, 5)) "
        + "| \(fixed(row.minimum, 5)) | \(fixed(Double(row.file.byteCount) / 1e6, 1)) |"
    }
    return lines.joined(separator: "\n")
  }

  func json(sourceByteCount: Int) -> JSONObject {
    [
      "sentences": .integer(sentenceCount), "floatByteCount": .integer(sourceByteCount),
      "schemes": .array(
        rows.map { row in
          .object([
            "scheme": .string(row.file.scheme.name), "method": .string(row.file.scheme.method),
            "cosineMean": .number(row.mean), "cosineMinimum": .number(row.minimum),
            "byteCount": .integer(row.file.byteCount),
          ])
        }),
    ]
  }
}
