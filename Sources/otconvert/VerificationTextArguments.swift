import ArgumentParser
import OTFoundation
import OTQ
import OTRuntime
import OTText

/// The text or tokens that `verify` runs models on.
struct VerificationTextArguments: ParsableArguments {
  /// Tokens of a sequence, unless told otherwise or a model reads fewer.
  private static let standardLength = 256

  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Text: plain or .jsonl (field 'text'), either also .gz or .zst; one or more files, - for standard input. [default: a sample that comes with the program]",
      valueName: "file"),
    completion: .file())
  var text: [String] = []

  @Option(
    help: ArgumentHelp(
      "Tokens instead of text: a safetensors file with int64 input_ids [sequences, tokens], or one row of test_ids; token_type_ids and attention_mask beside them count.",
      valueName: "file"), completion: .file())
  var ids: String?

  @Option(help: ArgumentHelp("The tensor of --ids to read. [default: input_ids, else test_ids]", valueName: "name"))
  var tensor: String?

  @Option(help: ArgumentHelp("Sequences to run.", valueName: "N")) var samples = 8

  @Option(help: ArgumentHelp("Tokens of a sequence. [default: 256, or the model's limit]", valueName: "N"))
  var length: Int?

  @Option(help: ArgumentHelp("Seed of the random choice of sequences.", valueName: "N")) var seed: UInt64 = 0

  /// True when the user has named text or tokens.
  var isGiven: Bool { !text.isEmpty || ids != nil }

  mutating func validate() throws {
    guard (1...1_000_000).contains(samples) else { throw ValidationError("--samples must be 1 to 1000000.") }
    if let length, !(2...1_000_000).contains(length) { throw ValidationError("--length must be 2 to 1000000.") }
    guard text.isEmpty || ids == nil else { throw ValidationError("--text and --ids exclude each other.") }
    guard tensor == nil || ids != nil else { throw ValidationError("--tensor needs --ids.") }
  }

  /// The sequences, and where they are from in words.
  ///
  /// - Throws: `Refusal` with rule `tokenizer-missing`, `ids-…` or `text-…`, or
  ///   as tokenizers throw.
  func sequences(
    for packed: LanguageModel, and source: LanguageModel
  ) throws -> (sequences: [TokenSequence], name: String) {
    let graphs = [packed.graph, source.graph]
    let longest = graphs.compactMap(\.contextLength).min() ?? .max
    if let ids {
      let tokens = try TokenWindows(
        path: ids, tensor: tensor, context: length, standard: Self.standardLength, option: "--length", limit: samples,
        graphs: graphs)
      return (try tokens.unmasked, ids.split(separator: "/").last.map(String.init) ?? ids)
    }
    guard let tokenizer = try source.file.model.tokenizer() else {
      throw Refusal(
        "tokenizer-missing", "has no tokenizer beside it, so that text cannot be read", file: source.file.path,
        remedy: "put the model's tokenizer.json beside it, or give tokens with --ids")
    }
    var samples = TextSamples()
    samples.paths = text
    samples.count = self.samples
    samples.length = length ?? min(Self.standardLength, longest)
    samples.seed = seed
    let drawn = try samples.draw(
      tokenizer: tokenizer, contextLength: source.contextLength, vocabularySize: source.vocabularySize)
    return (drawn.tokens.map { TokenSequence($0) }, samples.names.joined(separator: ", "))
  }
}
