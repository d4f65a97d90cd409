import ArgumentParser
import OTConversion
import OTFoundation
import OTQ
import OTQuantization

/// The number of a command's threads.
struct ThreadArguments: ParsableArguments {
  @Option(help: ArgumentHelp("Threads to use.", discussion: "The output does not depend on it.", valueName: "N"))
  var threads: Int = Machine.processorCount

  mutating func validate() throws {
    try validated { try OptionFault.checkThreads(threads) }
  }
}

/// Whether a command goes on where an earlier run ended.
struct ResumeArguments: ParsableArguments {
  @Flag(
    help: ArgumentHelp(
      "Keep what is done in OUT.resume until the output stands, and go on where an earlier run ended.",
      discussion: "The output is the same. A run with other options or files, or of another version, is refused."))
  var resume = false
}

/// The arithmetic of attention when a packed model runs.
struct AttentionArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Attention in integers: queries, keys and values of N bits, one scale per token. [default: float]",
      valueName: "N"))
  var quantizeAttention: Int?

  mutating func validate() throws {
    if let bits = quantizeAttention, !(2...8).contains(bits) {
      throw ValidationError("--quantize-attention must be 2 to 8.")
    }
  }
}

extension Effort: ExpressibleByArgument {}

extension ConvertOptions.WeightScheme: ExpressibleByArgument {}

extension ConvertOptions.Storage: ExpressibleByArgument {}

extension ActivationScales: ExpressibleByArgument {
  /// The scales that an argument names.
  public init?(argument: String) { self.init(argument) }
}

/// The options that decide what a converted file holds.
struct ConversionArguments: ParsableArguments {
  @Option(help: "Bits of the blocks' weights, 2 to 8; 8 and 6 are the ones to use.")
  var bits = 8

  @Option(help: ArgumentHelp("Bits of activations, 2 to 8, or 16: they stay float.", valueName: "bits"))
  var activationBits = 8

  @Option(
    help: ArgumentHelp(
      "Activations that share a scale: \(ActivationScales.forms). [default: as the method says; token with best]",
      valueName: "scales"))
  var activations: ActivationScales?

  @Option(
    help:
      "Range of a weight's quantized values: symmetric around 0, or from its minimum to its maximum. [default: symmetric with best, else asymmetric]"
  )
  var weightScheme: ConvertOptions.WeightScheme?

  @Option(
    help: ArgumentHelp(
      "Rule that makes the blocks' weights quantized values, with its options: \(Roundings.names). [default: gptq with best, clip with awq, else nearest]",
      valueName: "name[,key=value]"))
  var rounding: String?

  @Option(
    help: ArgumentHelp(
      "Weights of a row that share a scale: a multiple of 16. [default: the whole row]", valueName: "N"))
  var groupSize: Int?

  @Flag(help: "One scale for a whole weight matrix.")
  var perTensor = false

  @Option(
    help: ArgumentHelp(
      "Bits for matching names, for the whole fused group; the last match counts (repeatable).",
      valueName: "regex=bits"))
  var bitsFor: [String] = []

  @Option(
    help: ArgumentHelp(
      "The most that the file may take, such as 5.0bpw (bits per weight of the blocks' linears on disk) or 90MB: 3 to 8 bits for each fused group, by what they cost the model's output.",
      valueName: "size"))
  var budget: String?

  @Option(
    help: ArgumentHelp(
      "Method with its options (repeatable; each sees what those before it did): \(Methods.names). [default: best where the model can be run on text, outliertune with given statistics, else hadamard]",
      valueName: "name[,key=value]"))
  var method: [String] = []

  @Option(
    help: ArgumentHelp(
      "Work that goes into the model: fast (no text, weights to nearest), standard (best), or thorough (a choice for each site, by trial). [default: standard]",
      valueName: "level"))
  var effort: Effort?

  @Flag(help: "Quantize weights only; activations stay float. Packs models of unknown families too.")
  var weightsOnly = false

  @Option(
    help: ArgumentHelp(
      "Activation scales (.pt or .safetensors, SmoothQuant's or OutlierTune's layout): applies OutlierTune.",
      valueName: "file"))
  var actScales: String?

  @Option(
    help: ArgumentHelp(
      "Sums of midpoints (symmetrization); the activation scales are then those measured after it.", valueName: "file"))
  var symmetrization: String?

  @Option(
    help: ArgumentHelp("Number of samples that --symmetrization sums over.", valueName: "N"))
  var symmetrizationSamples: Int?

  @Option(
    help: ArgumentHelp("Statistics that 'otconvert calibrate' wrote: applies OutlierTune.", valueName: "file"),
    completion: .file())
  var statistics: String?

  @Option(
    help: ArgumentHelp(
      "Decisions that an earlier 'convert --save-recipe' kept of this model: methods, bits and roundings.",
      valueName: "file"), completion: .file())
  var recipe: String?

  @Flag(help: "With statistics: static scales alone, without shifting channels to their midpoints.")
  var noSymmetrization = false

  @Flag(help: "Without statistics: do not calibrate; activations are rotated and get one scale per token.")
  var noCalibration = false

  @OptionGroup var common: CommonConversionArguments

  mutating func validate() throws { try validated { try options(threadCount: 1).check() } }

  /// The options, but for what is calibrated on and the output.
  func options(threadCount: Int) -> ConvertOptions {
    var options = common.options
    (options.bits, options.activationBits) = (bits, activationBits)
    options.activations = activations?.description
    (options.weightScheme, options.rounding) = (weightScheme, rounding)
    (options.groupSize, options.isPerTensor) = (groupSize, perTensor)
    (options.bitsFor, options.budget) = (bitsFor, budget)
    options.isWeightsOnly = weightsOnly
    (options.methods, options.effort, options.recipe) = (method, effort, recipe)
    options.isSymmetrized = !noSymmetrization
    options.isCalibrated = !noCalibration
    (options.statistics, options.activationScales) = (statistics, actScales)
    (options.symmetrization, options.symmetrizationSampleCount) = (symmetrization, symmetrizationSamples)
    options.threadCount = threadCount
    return options
  }
}

/// The options of a conversion that are the same for every method and setting.
struct CommonConversionArguments: ParsableArguments {
  @Option(help: "Bits of embeddings and the output head: 8, or 16 for float16.")
  var embeddingBits = 8

  @Option(
    help: ArgumentHelp(
      "Leave linears and embeddings with matching names as they are, with their fused group (repeatable).",
      valueName: "regex"))
  var exclude: [String] = []

  @Option(help: "How the file is stored: compressed, or packed for use in place.")
  var compression = ConvertOptions.Storage.zstd

  @Option(
    help: ArgumentHelp(
      "Model family, where config.json has no model_type.", valueName: "name"))
  var family: String?

  mutating func validate() throws { try validated { try options.check() } }

  /// The options, all others as usual.
  var options: ConvertOptions {
    var options = ConvertOptions()
    (options.embeddingBits, options.exclude) = (embeddingBits, exclude)
    (options.compression, options.family) = (compression, family)
    return options
  }

  /// As the command line has them.
  var arguments: [String] {
    ["--embedding-bits", "\(embeddingBits)", "--compression", compression.rawValue]
      + exclude.flatMap { ["--exclude", $0] } + (family.map { ["--family", $0] } ?? [])
  }
}

/// Runs checks of options, whose refusals are wrong usage.
func validated(_ check: () throws -> Void) throws {
  do {
    try check()
  } catch let error as Refusal {
    let option = error.rule.hasPrefix("rounding") ? "--rounding: " : error.rule.hasPrefix("method") ? "--method: " : ""
    throw ValidationError("\(option)\(error.message)\(error.remedy.map { "; \($0)" } ?? "").")
  }
}
