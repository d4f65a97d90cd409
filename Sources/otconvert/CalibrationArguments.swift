import ArgumentParser
import OTConversion
import OTQ

extension ByteCount: ExpressibleByArgument {
  /// The count that an argument names.
  package init?(argument: String) { self.init(argument) }
}

/// The options that decide what a model is calibrated on.
struct CalibrationArguments: ParsableArguments {
  @OptionGroup var input: TextArguments

  @OptionGroup var sampling: SamplingArguments

  /// The text to draw samples from.
  var sampled: SampledText {
    sampling.sampled(input.text, field: input.field.textField, ids: input.ids, tensor: input.tensor)
  }

  mutating func validate() throws { try validated { try sampled.check() } }

  /// The settings of a calibration.
  func settings(threadCount: Int) -> Calibration {
    sampled.calibration(threadCount: threadCount, maximumByteCount: sampling.maxMemory?.value)
  }

  /// Options of a conversion, with what it is calibrated on.
  func adding(to options: ConvertOptions) -> ConvertOptions { sampling.adding(sampled, to: options) }
}

/// The options that decide how a text is sampled to calibrate on it.
struct SamplingArguments: ParsableArguments {
  @Option(help: ArgumentHelp("Samples to draw from the text.", valueName: "N")) var samples = 128

  @Option(
    help: ArgumentHelp("Tokens of a sample. [default: 512, or the model's limit]", valueName: "N"))
  var length: Int?

  @Option(help: ArgumentHelp("Seed of the random choice of samples.", valueName: "N")) var seed: UInt64 = 0

  @Option(
    help: ArgumentHelp(
      "Memory for calibrating, such as 4G, the mapped checkpoint not counted: a larger model is read layer by layer. [default: half of the machine's]",
      valueName: "bytes"))
  var maxMemory: ByteCount?

  /// As the command line has them, but for memory, which decides about nothing.
  var arguments: [String] {
    ["--samples", "\(samples)", "--seed", "\(seed)"] + (length.map { ["--length", "\($0)"] } ?? [])
  }

  /// The samples of files of text or of tokens.
  func sampled(_ paths: [String], field: String, ids: String?, tensor: String?) -> SampledText {
    var sampled = SampledText(sampleCount: samples)
    (sampled.paths, sampled.field) = (paths, field)
    (sampled.ids, sampled.tensor) = (ids, tensor)
    (sampled.length, sampled.seed) = (length, seed)
    return sampled
  }

  /// Options of a conversion that is calibrated on a text.
  func adding(_ text: SampledText, to options: ConvertOptions) -> ConvertOptions {
    var options = options
    options.text = text
    options.maximumByteCount = maxMemory?.value
    return options
  }
}
