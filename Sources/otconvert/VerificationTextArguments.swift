import ArgumentParser
import OTQ

/// The text or tokens that `verify` runs models on.
struct VerificationTextArguments: ParsableArguments {
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Text: plain or .jsonl, either also .gz or .zst; one or more files, - for standard input. [default: a sample that comes with the program]",
      valueName: "file"),
    completion: .file())
  var text: [String] = []
  @OptionGroup var field: TextFieldArgument

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

  /// The text to draw sequences from.
  var sampled: SampledText {
    var sampled = SampledText(sampleCount: samples)
    (sampled.paths, sampled.field) = (text, field.textField)
    (sampled.ids, sampled.tensor) = (ids, tensor)
    (sampled.length, sampled.seed) = (length, seed)
    return sampled
  }

  mutating func validate() throws { try validated { try sampled.check(leastLength: 2) } }
}
