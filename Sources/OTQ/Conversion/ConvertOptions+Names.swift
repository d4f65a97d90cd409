import OTFoundation

extension ConvertOptions {
  /// Options by the names that `otconvert convert` gives them, without the dashes in front.
  ///
  /// ```swift
  /// let options = try ConvertOptions(named: ["bits": ["6"], "weights-only": [], "exclude": ["lm_head", "embed"]])
  /// ```
  ///
  /// - Parameter options: the values of each option; none for a flag that is set.
  /// - Throws: ``Refusal`` with rule `option-unknown`, `option-value`, `option-conflict`, `method-…` or `rounding-…`.
  public init(named options: [String: [String]]) throws(Refusal) {
    var named = NamedOptions(options)
    try self.init(taking: &named)
    try named.finish()
    try check()
  }

  /// Takes the options of a conversion out of others.
  package init(taking options: inout NamedOptions) throws(Refusal) {
    self.init()
    bits = try options.integer("bits") ?? bits
    activationBits = try options.integer("activation-bits") ?? activationBits
    activations = try options.text("activations")
    weightScheme = try options.choice("weight-scheme", WeightScheme.self)
    rounding = try options.text("rounding")
    groupSize = try options.integer("group-size")
    isPerTensor = try options.flag("per-tensor")
    embeddingBits = try options.integer("embedding-bits") ?? embeddingBits
    exclude = try options.texts("exclude")
    bitsFor = try options.texts("bits-for")
    budget = try options.text("budget")
    isWeightsOnly = try options.flag("weights-only")
    compression = try options.choice("compression", Storage.self) ?? compression
    family = try options.text("family")
    methods = try options.texts("method")
    effort = try options.choice("effort", Effort.self)
    isSymmetrized = try !options.flag("no-symmetrization")
    recipe = try options.text("recipe")
    isCalibrated = try !options.flag("no-calibration")
    text = try options.sampledText(text)
    maximumByteCount = try options.value("max-memory", "a count of bytes such as 4G", ByteCount.init)?.value
    statistics = try options.text("statistics")
    activationScales = try options.text("act-scales")
    symmetrization = try options.text("symmetrization")
    symmetrizationSampleCount = try options.integer("symmetrization-samples")
    requirements.limits = try options.texts("require")
    requirements.until = try options.texts("until")
    try requirements.refuseStandardInput()
    requirements.textPaths = try options.paths("require-text")
    requirements.textField = text.field
    requirements.ids = try options.text("require-ids")
    requirements.windowCount = try options.integer("require-windows") ?? requirements.windowCount
    savedRecipe = try options.text("save-recipe")
    replacesOutput = try options.flag("force")
    resumes = try options.flag("resume")
    threadCount = try options.threadCount()
  }
}

/// A count of bytes: `800M`, `4G`, powers of 1000.
package struct ByteCount {
  /// The count.
  package let value: Int

  /// The count that `text` names; nil where it names none.
  package init?(_ text: String) {
    let units = ["K": 1000, "M": 1_000_000, "G": 1_000_000_000, "T": 1_000_000_000_000]
    let unit = text.last.flatMap { units[$0.uppercased()] }
    guard let number = Double(unit == nil ? text[...] : text.dropLast()), number > 0,
      let value = Int(exactly: (number * Double(unit ?? 1)).rounded(.down)), value > 0
    else { return nil }
    self.value = value
  }
}
