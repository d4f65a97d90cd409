import OTQuantization

/// The search for the smallest file that holds what is required.
extension ConvertOptions {
  /// True when an option is given that decides about the size of the file.
  var decidesSize: Bool {
    bits != 8 || groupSize != nil || isPerTensor || budget != nil || recipe != nil || isWeightsOnly
  }

  /// The settings to try, from the smallest file to the largest: those that the activations' groups allow.
  var ladder: [WeightSettings] {
    let scales = activations.flatMap(ActivationScales.init)
    return WeightSettings.ladder.filter { settings in
      scales?.fits(settings.groupSize.map { .perGroup(size: $0) } ?? .perChannel) != false
    }
  }

  /// The same with other bits of weights and groups of them.
  func with(_ settings: WeightSettings) -> ConvertOptions {
    var options = self
    (options.bits, options.groupSize) = (settings.bits, settings.groupSize)
    return options
  }

  /// What brings a file nearer to its source than these options do; nil: nothing that is known.
  ///
  /// - Parameter hasSearched: true when bits and groups of weights have been tried.
  func remedy(hasSearched: Bool) -> String? {
    var remedies: [String] = []
    if !hasSearched, budget == nil, recipe == nil, bits < 8 {
      remedies.append("--bits \(bits + 1)")
      if groupSize == nil, !isPerTensor { remedies.append("--group-size 64") }
    }
    if activationBits < 8, recipe == nil { remedies.append("--activation-bits \(min(activationBits + 2, 8))") }
    if activationBits <= 8, activations == nil, methods.isEmpty, recipe == nil, !isWeightsOnly {
      remedies.append("--activations group:64")
    }
    if effort != .thorough, methods.isEmpty, statisticsPaths.isEmpty, !isWeightsOnly, isCalibrated {
      remedies.append("--effort \(effort == .fast ? "standard" : "thorough")")
    }
    if !hasSearched, !isPerTensor, budget == nil, recipe == nil, !isWeightsOnly {
      let limits = requirements.limits.map { "--until '\($0)'" }.joined(separator: " ")
      remedies.append("\(limits) in place of --bits and --require")
    }
    guard let last = remedies.popLast() else { return nil }
    return "try " + (remedies.isEmpty ? last : remedies.joined(separator: ", ") + " or \(last)")
  }
}
