import ArgumentParser
import OTConversion
import OTQ

extension ByteCount: ExpressibleByArgument {
  /// The count that an argument names.
  package init?(argument: String) { self.init(argument) }
}

/// The options that decide what a model is calibrated on.
struct CalibrationArguments: ParsableArguments {
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Text to calibrate on: plain or .jsonl, either also .gz or .zst; one or more files, - for standard input.",
      valueName: "file"),
    completion: .file())
  var text: [String] = []
  @OptionGroup var field: TextFieldArgument

  @Option(
    help: ArgumentHelp(
      "Tokens instead of text: a safetensors file with int64 input_ids [samples, tokens]; token_type_ids and attention_mask beside them count.",
      valueName: "file"),
    completion: .file())
  var ids: String?
  @Option(help: ArgumentHelp("The tensor of --ids to read. [default: input_ids]", valueName: "name"))
  var tensor: String?

  @OptionGroup var sampling: SamplingArguments

  /// The text to draw samples from.
  var sampled: SampledText { sampling.sampled(text, field: field.textField, ids: ids, tensor: tensor) }

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
