import ArgumentParser
import Foundation
import OTFoundation
import OTJSON
import OTQ

struct EmbedCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "embed",
    abstract: "Turn sentences into vectors (BERT, sentence-transformers).",
    discussion: """
      MODEL is an .otq file, which runs as packed, or a checkpoint, which runs in
      float32. Pooling, normalization, the default prompt and the longest sentence
      are those of its modules.json, its pooling module,
      config_sentence_transformers.json and sentence_bert_config.json; without
      them, the mean over the tokens, not normalized, as sentence-transformers does.

      A line of numbers for each text, in their order; texts come with --text, or
      one a line with --text-file.

      EXAMPLES
        otconvert embed minilm.otq --text "A man is eating food."
        otconvert embed minilm.otq --text-file sentences.txt --json > vectors.json
      """)

  @Argument(help: "An .otq file or a checkpoint.", completion: .file()) var model: String
  @Option(help: ArgumentHelp("A text; repeatable.", valueName: "text")) var text: [String] = []
  @Option(help: ArgumentHelp("Texts, one a line; - for standard input.", valueName: "file"), completion: .file())
  var textFile: String?
  @OptionGroup var attention: AttentionArguments
  @OptionGroup var threads: ThreadArguments
  @OptionGroup var messages: OutputArguments

  mutating func validate() throws {
    guard text.isEmpty != (textFile == nil) else { throw ValidationError("Give either --text or --text-file.") }
  }

  func run() throws {
    let texts = try texts()
    let model = try LanguageModel(
      path: model, threadCount: threads.threads, attentionBits: attention.quantizeAttention)
    model.file.warnings.forEach(messages.warn)
    let embeddings = try model.embeddings(of: texts) { doneCount in
      messages.status(doneCount == texts.count ? "" : "embedding, \(doneCount) of \(texts.count) texts")
    }
    if !embeddings.recipe.otherPrompts.isEmpty {
      let names = embeddings.recipe.otherPrompts.map { "'\($0)'" }.joined(separator: ", ")
      messages.warn("the model has prompts that are not put before the texts: \(Refusal.printable(names))")
    }
    if let limit = embeddings.recipe.maximumTokenCount, embeddings.areCut.contains(true) {
      let count = embeddings.areCut.count { $0 }
      messages.warn("\(count) of \(texts.count) texts were cut to \(limit) tokens")
    }
    if messages.json { return try StandardOutput.write(json(embeddings).text(pretty: false) + "\n") }
    for vector in embeddings.vectors {
      try StandardOutput.write(vector.map { "\($0)" }.joined(separator: " ") + "\n")
    }
  }

  private func texts() throws -> [String] {
    guard let textFile else { return text }
    var lines = try TextInput.read(textFile).split(omittingEmptySubsequences: false) { $0 == "\n" || $0 == "\r\n" }
    if lines.last?.isEmpty ?? false { lines.removeLast() }
    guard !lines.isEmpty else {
      throw Refusal("embed-empty-text", "holds no text", file: textFile == "-" ? "standard input" : textFile)
    }
    return lines.map(String.init)
  }

  private func json(_ embeddings: SentenceEmbeddings) -> JSONValue {
    // The shortest text that reads back as the same float32.
    func number(_ value: Float) -> JSONValue { .number(Double("\(value)") ?? Double(value)) }
    return .object([
      "model": .string(model),
      "pooling": .array(embeddings.recipe.poolings.map { .string($0.name) }),
      "normalized": .bool(embeddings.recipe.isNormalized),
      "dimension": .integer(embeddings.vectors.first?.count ?? 0),
      "tokenCounts": .array(embeddings.tokenCounts.map { .integer($0) }),
      "truncated": .array(embeddings.areCut.map { .bool($0) }),
      "embeddings": .array(embeddings.vectors.map { .array($0.map(number)) }),
    ])
  }
}
