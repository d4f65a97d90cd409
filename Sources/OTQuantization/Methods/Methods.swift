/// The methods that there are.
package enum Methods {
  /// Every method.
  package static let all: [any QuantizationMethod.Type] = [
    Best.self, PerToken.self, WeightsOnly.self, OutlierTune.self, Hadamard.self, SmoothQuant.self, MinMax.self,
    Percentile.self, OMSE.self, OutlierSuppression.self, OutlierSuppressionPlus.self, FPTQ.self, AWQ.self,
    LLMInt8.self, PEG.self, QuaRot.self, SiteChoice.self, KeptRecipe.self,
  ]

  /// Their names, for texts.
  package static var names: String { all.map { $0.name }.joined(separator: ", ") }

  /// The method of `NAME[,key=value]…`.
  ///
  /// - Throws: `Refusal` with rule `method-unknown` or `method-option`.
  package static func method(_ text: String) throws -> any QuantizationMethod {
    var (type, options) = try MethodOptions.parse(
      text, of: all.map { ($0.name, $0) }, kind: "method", rule: "method-unknown")
    let method = try type.init(&options)
    try options.refuseRest()
    return method
  }
}
