import ArgumentParser
import Foundation
import OTFoundation
import OTJSON
import OTQ
import OTText

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

      Texts come with --text or from a file with --lines: one a line, or lines of JSON
      with a text under 'text', behind that perhaps .gz or .zst. They go through the
      model sorted by length; results are in the texts' order: a line of numbers for
      each, or with -o one float32 array [texts, dimension] as NumPy loads it.

      EXAMPLES
        otconvert embed minilm.otq --text "A man is eating food."
        otconvert embed minilm.otq --lines sentences.txt --json > vectors.json
        otconvert embed minilm.otq --lines texts.jsonl.gz -o vectors.npy
      """)

  @Argument(help: "An .otq file or a checkpoint.", completion: .file()) var model: String
  @Option(help: ArgumentHelp("A text; repeatable.", valueName: "text")) var text: [String] = []
  @Option(
    name: [.long, .customLong("text-file")],
    help: ArgumentHelp(
      "Texts, one a line, or lines of JSON with a text under 'text'; - for standard input.", valueName: "file"),
    completion: .file())
  var lines: String?
  @OptionGroup var field: TextFieldArgument
  @Option(
    name: .shortAndLong, help: ArgumentHelp("The array to write, an .npy file.", valueName: "file"),
    completion: .file(extensions: ["npy"]))
  var output: String?
  @Flag(help: "Replace the array where it exists.") var force = false
  @OptionGroup var attention: AttentionArguments
  @OptionGroup var threads: ThreadArguments
  @OptionGroup var messages: OutputArguments

  mutating func validate() throws {
    guard text.isEmpty != (lines == nil) else { throw ValidationError("Give either --text or --lines.") }
    guard output?.hasSuffix(".npy") ?? true else { throw ValidationError("An array's name ends with .npy.") }
    guard output == nil || !messages.json else { throw ValidationError("Give either --json or -o.") }
    guard output != nil || !force else { throw ValidationError("--force is for -o.") }
  }

  func run() throws {
    let inputs = FileIdentity.all([model, lines])
    if let output { try AtomicFile.check([output], force: force, inputs: inputs) }
    let texts = try texts()
    let model = try LanguageModel(
      readingText: model, threadCount: threads.threads, attentionBits: attention.quantizeAttention)
    model.file.warnings.forEach(messages.warn)
    let start = ContinuousClock.now
    let embeddings = try model.embeddings(of: texts) { doneCount, _ in
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
    if let output {
      let seconds = (ContinuousClock.now - start) / .seconds(1)
      try NumPyFile.write(embeddings.vectors, to: output, force: force, inputs: inputs)
      let dimension = embeddings.vectors.first?.count ?? 0
      return try messages.print(
        "\(Refusal.printable(output)): float32 [\(texts.count), \(dimension)], "
          + "\(fixed(Double(texts.count) / max(seconds, 1e-9), 1)) texts/s")
    }
    if messages.json { return try StandardOutput.write(json(embeddings).text(pretty: false) + "\n") }
    for vector in embeddings.vectors {
      try StandardOutput.write(vector.map { "\($0)" }.joined(separator: " ") + "\n")
    }
  }

  private func texts() throws -> [String] {
    guard let lines else { return text }
    return try TextFile(path: lines, field: field.textField).texts(emptyRule: "embed-empty-text")
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
