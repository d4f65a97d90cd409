import ArgumentParser
import OTQ
import OTTensor

/// What `verify` runs models on.
struct VerificationTextArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Tokens: a safetensors file with int64 input_ids [sequences, tokens], or one row of test_ids.",
      valueName: "file"), completion: .file())
  var ids: String?

  @Option(help: ArgumentHelp("The tensor of --ids to read. [default: input_ids, else test_ids]", valueName: "name"))
  var tensor: String?

  @Option(help: ArgumentHelp("Sequences to run.", valueName: "N")) var samples = 8

  @Option(
    help: ArgumentHelp("Tokens of a sequence. [default: 256, or the model's limit]", valueName: "N"))
  var length: Int?

  /// Whether the user has named text.
  var isGiven: Bool { ids != nil }

  mutating func validate() throws {
    guard samples > 0 else { throw ValidationError("--samples must be positive.") }
    if let length, length < 2 { throw ValidationError("--length must be at least 2.") }
  }

  /// The sequences, and where they are from in words.
  ///
  /// - Throws: `Refusal` with rule `verify-no-text` or `ids-…`.
  func sequences(
    for packed: LanguageModel, and source: LanguageModel
  ) throws -> (sequences: [[Int]], name: String) {
    let graphs = [packed.graph, source.graph]
    if let ids {
      let longest = graphs.compactMap(\.contextLength).min() ?? 256
      let tokens = try TokenWindows(
        path: ids, tensor: tensor, context: length ?? min(256, longest), limit: samples, graphs: graphs)
      return (tokens.windows, ids.split(separator: "/").last.map(String.init) ?? ids)
    }
    throw Refusal(
      "verify-no-text", "the models cannot be run without text", file: packed.file.path, remedy: "give --ids")
  }
}
