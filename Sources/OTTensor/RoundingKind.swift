/// The name of the rule by which weights became quantized values, as files record it.
///
/// Whoever judges a weight goes by it: nearest rounding keeps each within half a step, rules that
/// trade errors between the weights of a row do not.
package struct RoundingKind: Sendable, Hashable {
  /// 1 to 32 lower-case letters, digits and hyphens.
  package let name: String

  /// Each weight to the nearest value, ties to even.
  package static let nearest = RoundingKind(unchecked: "nearest")

  /// Each weight makes up for the errors of those before it: GPTQ.
  package static let gptq = RoundingKind(unchecked: "gptq")

  /// Each weight to the nearest value of a range that does not reach all of them: AWQ's clipping.
  package static let clipped = RoundingKind(unchecked: "clip")

  /// Nil for what is no such name.
  package init?(_ name: String) {
    let isValid = name.utf8.allSatisfy { byte in
      (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
        || byte == UInt8(ascii: "-")
    }
    guard isValid, (1...32).contains(name.utf8.count) else { return nil }
    self.name = name
  }

  private init(unchecked name: String) { self.name = name }
}
