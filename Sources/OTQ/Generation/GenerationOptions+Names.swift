import OTFoundation

extension GenerationOptions {
  /// Options by the names that `otconvert run` gives them, without the dashes in front.
  ///
  /// - Parameter options: the values of each option.
  /// - Throws: ``Refusal`` with rule `option-unknown`, `option-value` or `option-conflict`.
  public init(named options: [String: [String]]) throws(Refusal) {
    var named = NamedOptions(options)
    self.init()
    maximumTokenCount = try named.integer("max-tokens") ?? maximumTokenCount
    temperature = try named.value("temperature", "a number", { Double($0) }) ?? temperature
    topK = try named.integer("top-k")
    topP = try named.value("top-p", "a number", { Double($0) })
    seed = try named.value("seed", "a whole number of at least 0", { UInt64($0) }) ?? seed
    stopStrings = try named.texts("stop")
    try named.finish()
    try check()
  }

  /// Checks options that a user has given by their names.
  ///
  /// - Throws: ``Refusal`` with rule `option-value` or `option-conflict`.
  package func check() throws(Refusal) {
    try OptionFault.refuse(maximumTokenCount < 1, value: "--max-tokens must be positive")
    try OptionFault.refuse(
      !(temperature >= 0 && temperature.isFinite), value: "--temperature must be 0 or positive")
    try OptionFault.refuse(
      topP.map { !($0 > 0 && $0 <= 1) } ?? false, value: "--top-p must be above 0 and at most 1")
    try OptionFault.refuse(topK.map { $0 < 1 } ?? false, value: "--top-k must be positive")
    try OptionFault.refuse(
      temperature == 0 && (topP != nil || topK != nil),
      conflict: "--top-p and --top-k need a --temperature above 0: at 0 nothing is drawn")
    try OptionFault.refuse(stopStrings.contains(""), value: "--stop must not be empty")
  }
}
