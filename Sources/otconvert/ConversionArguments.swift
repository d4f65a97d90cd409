import ArgumentParser
import Foundation
import OTConversion
import OTFoundation
import OTGraph
import OTModel
import OTObservation
import OTProof
import OTQuantization
import OTTensor

/// The number of a command's threads.
struct ThreadArguments: ParsableArguments {
  @Option(help: ArgumentHelp("Threads to use.", discussion: "The output does not depend on it.", valueName: "N"))
  var threads: Int = Machine.processorCount

  mutating func validate() throws {
    guard (1...1024).contains(threads) else { throw ValidationError("--threads must be 1 to 1024.") }
  }
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

enum WeightScheme: String, ExpressibleByArgument, CaseIterable {
  case symmetric, asymmetric
}

extension ActivationScales: ExpressibleByArgument {
  /// The scales that an argument names.
  public init?(argument: String) { self.init(argument) }
}

enum CompressionChoice: String, ExpressibleByArgument, CaseIterable {
  case zstd, none
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
  var weightScheme: WeightScheme?

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

  @Option(help: "Bits of embeddings and the output head: 8, or 16 for float16.")
  var embeddingBits = 8

  @Option(
    help: ArgumentHelp(
      "Leave linears and embeddings with matching names as they are, with their fused group (repeatable).",
      valueName: "regex"))
  var exclude: [String] = []

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
      "Model family, where config.json has no model_type.", valueName: "name"))
  var family: String?

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

  @Option(help: "How the file is stored: compressed, or packed for use in place.")
  var compression = CompressionChoice.zstd

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

  mutating func validate() throws {
    guard (2...8).contains(bits) else { throw ValidationError("--bits must be 2 to 8.") }
    guard (2...8).contains(activationBits) || activationBits == 16 else {
      throw ValidationError("--activation-bits must be 2 to 8, or 16.")
    }
    if let groupSize {
      guard QuantizationScheme.isValidGroupSize(groupSize) else {
        throw ValidationError("--group-size must be a multiple of 16 up to 65536.")
      }
      guard !perTensor else { throw ValidationError("--group-size and --per-tensor exclude each other.") }
    }
    guard activations == nil || (activationBits < 16 && !weightsOnly) else {
      throw ValidationError("--activations has no use where activations stay float.")
    }
    guard activations?.fits(groupSize.map { .perGroup(size: $0) } ?? .perChannel) != false else {
      throw ValidationError("--group-size must be a multiple of the N of --activations group:N.")
    }
    guard embeddingBits == 8 || embeddingBits == 16 else {
      throw ValidationError("--embedding-bits must be 8 or 16.")
    }
    if let family, !Families.all.contains(where: { $0.name == family }) {
      throw ValidationError(
        "--family must be one of \(Families.all.map { $0.name }.joined(separator: ", ")).")
    }
    if let budget {
      guard BitBudget(budget) != nil else { throw ValidationError("--budget '\(budget)' is not like 5.0bpw or 90MB.") }
      guard bits == 8 else { throw ValidationError("--budget chooses the bits: leave out --bits.") }
    }
    guard symmetrization == nil || actScales != nil else {
      throw ValidationError("--symmetrization needs --act-scales, measured after it.")
    }
    guard (symmetrization == nil) == (symmetrizationSamples == nil) else {
      throw ValidationError("--symmetrization and --symmetrization-samples need each other.")
    }
    if let symmetrizationSamples, symmetrizationSamples < 1 {
      throw ValidationError("--symmetrization-samples must be positive.")
    }
    guard method.isEmpty || !(weightsOnly || noSymmetrization) else {
      throw ValidationError("--method excludes --weights-only and --no-symmetrization (outliertune,symmetrize=false).")
    }
    guard rounding == nil || !weightsOnly else {
      throw ValidationError("--weights-only rounds to nearest: take --activation-bits 16 with --rounding.")
    }
    guard actScales == nil || !weightsOnly else {
      throw ValidationError("--weights-only leaves activations alone, so --act-scales has no use.")
    }
    guard statistics == nil || (actScales == nil && !weightsOnly) else {
      throw ValidationError("--statistics excludes --act-scales and --weights-only.")
    }
    guard !noSymmetrization || (actScales == nil && !weightsOnly && !(noCalibration && statistics == nil)) else {
      throw ValidationError("--no-symmetrization is for statistics of calibration: leave out --symmetrization instead.")
    }
    guard effort == nil || (method.isEmpty && statisticsPaths.isEmpty && !weightsOnly && !noCalibration) else {
      throw ValidationError("--effort excludes --method, statistics, --weights-only and --no-calibration.")
    }
    if recipe != nil {
      let isPlain =
        bits == 8 && activationBits == 8 && activations == nil && weightScheme == nil && rounding == nil
        && groupSize == nil && !perTensor
        && exclude.isEmpty && bitsFor.isEmpty && budget == nil && effort == nil && method.isEmpty
      guard isPlain, statisticsPaths == [recipe], !weightsOnly, !noSymmetrization, !noCalibration else {
        throw ValidationError("--recipe has decided about sites and weights: leave out the options that do.")
      }
    }
    _ = try options(threadCount: 1, readsRecipe: false)
  }

  /// True when a model is to be calibrated that can be.
  var calibrates: Bool { statistics == nil && actScales == nil && !weightsOnly && !noCalibration && effort != .fast }

  /// True when an option is given that decides about sites or weights.
  var decides: Bool {
    bits != 8 || activationBits != 8 || activations != nil || weightScheme != nil || rounding != nil || groupSize != nil
      || perTensor || effort != nil || budget != nil || !exclude.isEmpty || !bitsFor.isEmpty || !method.isEmpty
      || weightsOnly || noSymmetrization || noCalibration
      || !statisticsPaths.isEmpty
  }

  /// True when an option is given that decides about the size of the file.
  var decidesSize: Bool { bits != 8 || groupSize != nil || perTensor || budget != nil || recipe != nil || weightsOnly }

  /// The same with other bits of weights and groups of them.
  func with(_ settings: Settings) -> ConversionArguments {
    var arguments = self
    (arguments.bits, arguments.groupSize) = (settings.bits, settings.groupSize)
    return arguments
  }

  /// True when the activations' groups allow those of the weights.
  func fits(_ settings: Settings) -> Bool {
    activations?.fits(settings.groupSize.map { .perGroup(size: $0) } ?? .perChannel) != false
  }

  /// What brings a file nearer to its source than these options do.
  ///
  /// - Parameters:
  ///   - isAlone: true when bits and groups of weights have been tried.
  ///   - requirements: what the file has to hold.
  func remedies(alone isAlone: Bool, for requirements: [String] = []) -> String? {
    var remedies: [String] = []
    if !isAlone, budget == nil, recipe == nil {
      if bits < 8 { remedies.append("--bits \(bits + 1)") }
      if bits < 8, groupSize == nil, !perTensor { remedies.append("--group-size 64") }
    }
    if activationBits < 8 { remedies.append("--activation-bits \(activationBits + 2 > 8 ? 8 : activationBits + 2)") }
    if activationBits <= 8, activations == nil, method.isEmpty, recipe == nil {
      remedies.append("--activations group:64")
    }
    if effort != .thorough, method.isEmpty, statisticsPaths.isEmpty, !weightsOnly, !noCalibration {
      remedies.append("--effort \(effort == .fast ? "standard" : "thorough")")
    }
    if !isAlone, !decidesSize || (bits != 8 && groupSize == nil && !perTensor && budget == nil && recipe == nil) {
      let limits = requirements.map { "--until '\($0)'" }.joined(separator: " ")
      remedies.append("\(limits) in place of --bits and --require")
    }
    guard let last = remedies.popLast() else { return nil }
    return "try " + (remedies.isEmpty ? last : remedies.joined(separator: ", ") + " or \(last)")
  }

  /// The model and what is known of it.
  ///
  /// - Parameters:
  ///   - avoidsRotation: as in `ConversionOptions`.
  ///   - output: rotated weights are kept beside it.
  func conversion(
    of model: SourceModel, threadCount: Int, avoidsRotation: Bool = false, beside output: String? = nil
  ) throws -> Conversion {
    var options = try options(threadCount: threadCount)
    if let output { options.scratchFolder = URL(fileURLWithPath: output).deletingLastPathComponent().path }
    options.avoidsRotation = avoidsRotation
    return try Conversion(
      model, options: options, foreign: statisticsFiles, statistics: statistics.map { try ModelObservations(path: $0) })
  }

  /// The model of a checkpoint and what is known of it.
  func conversion(of path: String, threadCount: Int, beside output: String? = nil) throws -> Conversion {
    try conversion(of: SourceModel(path: path, family: family), threadCount: threadCount, beside: output)
  }

  /// Files that say what is known of the sites.
  var statisticsPaths: [String] { [actScales, symmetrization, statistics, recipe].compactMap { $0 } }

  /// - Parameter readsRecipe: false while arguments are checked: files are refused later.
  func options(threadCount: Int, readsRecipe: Bool = true) throws -> ConversionOptions {
    var options = ConversionOptions()
    options.bits = bits
    options.activationBits = activationBits
    options.activations = activations
    options.isSymmetric = weightScheme.map { $0 == .symmetric }
    options.granularity = groupSize.map { .perGroup(size: $0) } ?? (perTensor ? .perTensor : .perChannel)
    options.embeddingBits = embeddingBits
    options.exclude = try exclude.map { try ConversionArguments.pattern($0, "--exclude") }
    options.bitsFor = try bitsFor.map { rule in
      guard let mark = rule.lastIndex(of: "="), let bits = Int(rule[rule.index(after: mark)...]),
        (2...8).contains(bits)
      else { throw ValidationError("--bits-for '\(rule)' is not REGEX=BITS with bits 2 to 8.") }
      return (try ConversionArguments.pattern(String(rule[..<mark]), "--bits-for"), bits)
    }
    options.budget = budget.flatMap(BitBudget.init)
    options.family = family
    options.isCalibrated = calibrates
    options.effort = effort ?? .standard
    do {
      options.methods = try method.map(Methods.method)
      options.rounding = try rounding.map(Roundings.rule)
    } catch let refusal as Refusal {
      let option = refusal.rule.hasPrefix("rounding") ? "--rounding" : "--method"
      throw ValidationError("\(option): \(refusal.message)\(refusal.remedy.map { "; \($0)" } ?? "").")
    }
    if readsRecipe, let recipe { options.methods = [try KeptRecipe(path: recipe)] }
    options.isWeightsOnly = weightsOnly
    options.isSymmetrized = !noSymmetrization
    options.compression = compression == .zstd ? .standard : .none
    options.threadCount = threadCount
    return options
  }

  /// Files of other tools.
  var statisticsFiles: ForeignStatistics? {
    actScales.map {
      ForeignStatistics(scales: $0, symmetrizations: symmetrization, sampleCount: symmetrizationSamples ?? 1)
    }
  }

  private static func pattern(_ text: String, _ option: String) throws -> NamePattern {
    guard let pattern = NamePattern(text) else {
      throw ValidationError("\(option) '\(text)' is not a regular expression.")
    }
    return pattern
  }
}
