import OTFoundation
import OTTokenizer

/// Samples of tokens that are drawn from text.
package struct TextSamples: Sendable {
  /// Tokens of a sample, unless told otherwise or the model reads fewer.
  package static let standardLength = 512

  /// Files of text; none: the sample that comes with the package.
  package var paths: [String] = []
  /// The field of lines of JSON that has the text.
  package var field = TextFile.standardField
  /// Samples, if the text has as many.
  package var count = 128
  /// Tokens of a sample; nil: `standardLength`, or what the model can read.
  package var length: Int?
  /// Seed of the random choice of samples.
  package var seed: UInt64 = 0

  /// The sample that comes with the package.
  package init() {}

  /// The samples that were drawn.
  package struct Drawn: Sendable {
    /// Token IDs of each sample.
    package let tokens: [[Int]]
    /// Tokens of the longest sample.
    package let length: Int
    /// Tokens that a sample has, if the text has as many.
    let wantedLength: Int

    /// A note for a user who wanted `count` samples; nil where there are as many, of full length.
    package func note(wanting count: Int) -> String? {
      guard tokens.count < count || length < wantedLength else { return nil }
      return "the text has \(tokens.count) samples of \(length) tokens, not \(count) of \(wantedLength)"
    }
  }

  /// Names of the files, without folders.
  package var names: [String] {
    paths.isEmpty ? [SampleText.name] : paths.map { TextFile.recordName($0, field: field) }
  }

  /// Tokens of a sample, if the text has as many.
  ///
  /// - Parameter contextLength: the most that the model can read; nil: any number.
  package func sampleLength(contextLength: Int?) -> Int {
    length ?? min(TextSamples.standardLength, contextLength ?? .max)
  }

  /// Draws samples for a model.
  ///
  /// - Parameters:
  ///   - contextLength: the most tokens that the model can read; nil: any number.
  ///   - vocabularySize: tokens that it knows; nil: not checked.
  /// - Throws: `Refusal` with rule `calibration-context` or `text-token`, or as `TokenSampling` throws.
  package func draw(tokenizer: Tokenizer, contextLength: Int?, vocabularySize: Int?) throws -> Drawn {
    if let length, let contextLength, length > contextLength {
      throw Refusal(
        "calibration-context", "samples of \(length) tokens are longer than the model's \(contextLength)",
        remedy: "choose a smaller --length")
    }
    let length = sampleLength(contextLength: contextLength)
    let tokens =
      paths.isEmpty
      ? try TokenSampling.samples(
        ofDocuments: SampleText.documents(), tokenizer: tokenizer, count: count, length: length, seed: seed)
      : try TokenSampling.samples(
        of: paths, field: field, tokenizer: tokenizer, count: count, length: length, seed: seed)
    try TextSamples.check(tokens, vocabularySize: vocabularySize, file: paths.first)
    return Drawn(tokens: tokens, length: tokens.map(\.count).max() ?? 0, wantedLength: length)
  }

  /// Checks that the model knows all tokens.
  ///
  /// - Throws: `Refusal` with rule `text-token`.
  package static func check(_ samples: [[Int]], vocabularySize: Int?, file: String?) throws {
    guard let vocabularySize,
      let token = samples.lazy.flatMap({ $0 }).first(where: { !(0..<vocabularySize).contains($0) })
    else { return }
    throw Refusal(
      "text-token", "the tokenizer gives token \(token), the model's vocabulary has 0...\(vocabularySize - 1)",
      file: file, remedy: "put the model's own tokenizer.json beside it")
  }
}
