/// The rules that make weights quantized values.
package enum Roundings {
  /// Every rule.
  package static let all: [any RoundingRule.Type] = [NearestRounding.self, GPTQ.self, ClippedRounding.self]

  /// Their names, for texts.
  package static var names: String { all.map { $0.name }.joined(separator: ", ") }

  /// The rule of `NAME[,key=value]…`.
  ///
  /// - Throws: `Refusal` with rule `rounding-unknown` or `method-option`.
  package static func rule(_ text: String) throws -> any RoundingRule {
    var (type, options) = try MethodOptions.parse(
      text, of: all.map { ($0.name, $0) }, kind: "rounding", rule: "rounding-unknown")
    let rule = try type.init(&options)
    try options.refuseRest()
    return rule
  }
}
