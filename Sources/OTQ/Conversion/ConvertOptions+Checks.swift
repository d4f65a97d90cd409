import OTConversion
import OTExport
import OTFoundation
import OTGraph
import OTModel
import OTObservation
import OTQuantization
import OTTensor

extension ConvertOptions {
  /// Checks what can be checked without the model.
  ///
  /// - Throws: ``Refusal`` with rule `option-value`, `option-conflict`, `method-…` or `rounding-…`.
  package func check() throws(Refusal) {
    try checkValues()
    try checkConflicts()
    try text.check()
    try requirements.check()
    _ = try conversionOptions(readsRecipe: false)
  }

  private func checkValues() throws(Refusal) {
    try OptionFault.checkThreads(threadCount)
    try OptionFault.refuse(!(2...8).contains(bits), value: "--bits must be 2 to 8")
    try OptionFault.refuse(
      !(2...8).contains(activationBits) && activationBits != 16, value: "--activation-bits must be 2 to 8, or 16")
    try OptionFault.refuse(
      activations != nil && activationGroups == nil, value: "--activations must be one of \(ActivationScales.forms)")
    try OptionFault.refuse(
      groupSize.map { !QuantizationScheme.isValidGroupSize($0) } ?? false,
      value: "--group-size must be a multiple of 16 up to 65536")
    try OptionFault.refuse(embeddingBits != 8 && embeddingBits != 16, value: "--embedding-bits must be 8 or 16")
    try OptionFault.refuse(
      family.map { family in !Families.all.contains { $0.name == family } } ?? false,
      value: "--family must be one of \(Families.all.map { $0.name }.joined(separator: ", "))")
    try OptionFault.refuse(
      budget.map { BitBudget($0) == nil } ?? false, value: "--budget '\(budget ?? "")' is not like 5.0bpw or 90MB")
    try OptionFault.refuse(
      symmetrizationSampleCount.map { $0 < 1 } ?? false, value: "--symmetrization-samples must be positive")
  }

  private func checkConflicts() throws(Refusal) {
    func refuse(_ isWrong: Bool, _ message: String) throws(Refusal) {
      try OptionFault.refuse(isWrong, conflict: message)
    }
    try refuse(groupSize != nil && isPerTensor, "--group-size and --per-tensor exclude each other")
    try refuse(
      activations != nil && (activationBits == 16 || isWeightsOnly),
      "--activations has no use where activations stay float")
    try refuse(
      activationGroups?.fits(groupSize.map { .perGroup(size: $0) } ?? .perChannel) == false,
      "--group-size must be a multiple of the N of --activations group:N")
    try refuse(budget != nil && bits != 8, "--budget chooses the bits: leave out --bits")
    try refuse(
      symmetrization != nil && activationScales == nil, "--symmetrization needs --act-scales, measured after it")
    try refuse(
      (symmetrization == nil) != (symmetrizationSampleCount == nil),
      "--symmetrization and --symmetrization-samples need each other")
    try refuse(
      !methods.isEmpty && (isWeightsOnly || !isSymmetrized),
      "--method excludes --weights-only and --no-symmetrization (outliertune,symmetrize=false)")
    try refuse(
      rounding != nil && isWeightsOnly,
      "--weights-only rounds to nearest: take --activation-bits 16 with --rounding")
    try refuse(
      activationScales != nil && isWeightsOnly,
      "--weights-only leaves activations alone, so --act-scales has no use")
    try refuse(
      statistics != nil && (activationScales != nil || isWeightsOnly),
      "--statistics excludes --act-scales and --weights-only")
    try refuse(
      !isSymmetrized && (activationScales != nil || isWeightsOnly || (!isCalibrated && statistics == nil)),
      "--no-symmetrization is for statistics of calibration: leave out --symmetrization instead")
    try refuse(
      effort != nil && (!methods.isEmpty || !statisticsPaths.isEmpty || isWeightsOnly || !isCalibrated),
      "--effort excludes --method, statistics, --weights-only and --no-calibration")
    try refuse(
      !requirements.until.isEmpty && decidesSize,
      "--until chooses the bits: leave out --bits, --group-size, --per-tensor, --budget, --recipe and --weights-only")
    try refuse(
      !requirements.until.isEmpty && resumes, "--until makes one file after the other: --resume goes on with one")
    if recipe != nil {
      var others = self
      others.recipe = nil
      try refuse(
        others.decides, "--recipe has decided about sites and weights: leave out the options that do")
    }
  }

  /// Checks that text, where it is given, is for something.
  ///
  /// - Throws: ``Refusal`` with rule `option-conflict`.
  package func checkUseOfText() throws(Refusal) {
    try OptionFault.refuse(
      text.isGiven && !calibrates && rounding == nil,
      conflict: "--text and --ids are for calibrating: leave out the options that keep a model from it")
  }

  private var activationGroups: ActivationScales? { activations.flatMap(ActivationScales.init) }

  /// True when a model is to be calibrated that can be.
  package var calibrates: Bool {
    statistics == nil && activationScales == nil && !isWeightsOnly && isCalibrated && effort != .fast
  }

  /// True when an option is given that decides about sites or weights.
  package var decides: Bool {
    bits != 8 || activationBits != 8 || activations != nil || weightScheme != nil || rounding != nil || groupSize != nil
      || isPerTensor || effort != nil || budget != nil || !exclude.isEmpty || !bitsFor.isEmpty || !methods.isEmpty
      || isWeightsOnly || !isSymmetrized || !isCalibrated || !statisticsPaths.isEmpty
  }

  /// Files that say what is known of the sites.
  package var statisticsPaths: [String] {
    [activationScales, symmetrization, statistics, recipe].compactMap { $0 }
  }

  /// The threads to use.
  package var threads: Int { threadCount ?? Machine.processorCount }

  /// The options as the pipeline takes them.
  ///
  /// - Parameter readsRecipe: false while options are checked: files are refused later.
  /// - Throws: ``Refusal`` with rule `option-value`, `method-…` or `rounding-…`, or as reading a recipe throws.
  package func conversionOptions(readsRecipe: Bool = true) throws(Refusal) -> ConversionOptions {
    var options = ConversionOptions()
    options.bits = bits
    options.activationBits = activationBits
    options.activations = activationGroups
    options.isSymmetric = weightScheme.map { $0 == .symmetric }
    options.granularity = groupSize.map { .perGroup(size: $0) } ?? (isPerTensor ? .perTensor : .perChannel)
    options.embeddingBits = embeddingBits
    for text in exclude { options.exclude.append(try Self.pattern(text, "--exclude")) }
    for rule in bitsFor {
      guard let mark = rule.lastIndex(of: "="), let bits = Int(rule[rule.index(after: mark)...]),
        (2...8).contains(bits)
      else { throw Refusal("option-value", "--bits-for '\(rule)' is not REGEX=BITS with bits 2 to 8") }
      options.bitsFor.append((try Self.pattern(String(rule[..<mark]), "--bits-for"), bits))
    }
    options.budget = budget.flatMap(BitBudget.init)
    options.family = family
    options.isCalibrated = calibrates
    options.effort = effort ?? .standard
    options.methods = try refusing { try methods.map(Methods.method) }
    options.rounding = try refusing { try rounding.map(Roundings.rule) }
    if readsRecipe, let recipe { options.methods = [try refusing { try KeptRecipe(path: recipe) }] }
    options.isWeightsOnly = isWeightsOnly
    options.isSymmetrized = isSymmetrized
    options.compression = compression == .zstd ? .standard : .none
    options.threadCount = threads
    return options
  }

  private static func pattern(_ text: String, _ option: String) throws(Refusal) -> NamePattern {
    guard let pattern = NamePattern(text) else {
      throw Refusal("option-value", "\(option) '\(text)' is not a regular expression")
    }
    return pattern
  }

  /// A model and what is known of it.
  ///
  /// - Parameters:
  ///   - format: the format of other tools that it is converted for; nil: `.otq`.
  ///   - output: rotated weights are kept beside it.
  /// - Throws: as `Conversion` and reading statistics throw.
  package func conversion(
    of model: SourceModel, to format: (any ModelWriter.Type)? = nil, beside output: String? = nil
  ) throws -> Conversion {
    var options = try conversionOptions()
    if let output { options.scratchFolder = output.parentPath }
    if let format { options = options.exporting(to: format) }
    let foreign = activationScales.map {
      ForeignStatistics(scales: $0, symmetrizations: symmetrization, sampleCount: symmetrizationSampleCount ?? 1)
    }
    return try Conversion(
      model, options: options, foreign: foreign, statistics: statistics.map { try ModelObservations(path: $0) })
  }
}
