import OTFoundation

/// The methods that there are.
package enum Methods {
  /// Every method.
  package static let all: [any QuantizationMethod.Type] = [
    PerToken.self, WeightsOnly.self, OutlierTune.self, Hadamard.self, SmoothQuant.self, MinMax.self, Percentile.self,
    OMSE.self, OutlierSuppression.self, OutlierSuppressionPlus.self, FPTQ.self, AWQ.self,
  ]

  /// Their names, for texts.
  package static var names: String { all.map { $0.name }.joined(separator: ", ") }

  /// The method of `NAME[,key=value]…`.
  ///
  /// - Throws: `Refusal` with rule `method-unknown` or `method-option`.
  package static func method(_ text: String) throws -> any QuantizationMethod {
    let parts = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    guard let type = all.first(where: { $0.name == parts[0] }) else {
      throw Refusal("method-unknown", "there is no method '\(parts[0])'", remedy: "methods: \(names)")
    }
    var values: [String: String] = [:]
    for part in parts.dropFirst() {
      guard let mark = part.firstIndex(of: "="),
        values.updateValue(String(part[part.index(after: mark)...]), forKey: String(part[..<mark])) == nil
      else { throw Refusal("method-option", "method '\(type.name)': '\(part)' is not one KEY=VALUE") }
    }
    return try make(type, values)
  }

  private static func make<Method: QuantizationMethod>(
    _ type: Method.Type, _ values: [String: String]
  ) throws -> Method {
    var options = MethodOptions(method: type.name, values)
    let method = try type.init(&options)
    try options.refuseRest()
    return method
  }
}
