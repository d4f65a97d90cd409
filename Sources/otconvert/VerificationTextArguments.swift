import ArgumentParser
import OTQ

/// The text or tokens that `verify` runs models on.
struct VerificationTextArguments: ParsableArguments {
  @OptionGroup var input: TextArguments

  @Option(help: ArgumentHelp("Sequences to run.", valueName: "N")) var samples = 8

  @Option(help: ArgumentHelp("Tokens of a sequence. [default: 256, or the model's limit]", valueName: "N"))
  var length: Int?

  @Option(help: ArgumentHelp("Seed of the random choice of sequences.", valueName: "N")) var seed: UInt64 = 0

  /// The text to draw sequences from.
  var sampled: SampledText {
    var sampled = SampledText(sampleCount: samples)
    (sampled.paths, sampled.field) = (input.text, input.field.textField)
    (sampled.ids, sampled.tensor) = (input.ids, input.tensor)
    (sampled.length, sampled.seed) = (length, seed)
    return sampled
  }

  mutating func validate() throws { try validated { try sampled.check(leastLength: 2) } }
}
