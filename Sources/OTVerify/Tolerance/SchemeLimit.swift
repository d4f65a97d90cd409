/// A limit that depends on a model's scheme.
package struct SchemeLimit: Sendable, Hashable {
  /// The cost of a bit: the default is `base + weights · r^−(weight bits) +
  /// activations · r^−(activation bits)`, where r is 2 for errors and 4 for what grows with
  /// their squares; 16 bits, which stand for floats, add nothing.
  struct Cost: Sendable, Hashable {
    let weights: Double
    let activations: Double
  }

  /// Holds for schemes that are not in `byScheme`; nil: the default does.
  package var all: Double?
  /// Limits of certain schemes.
  package var byScheme: [ModelScheme: Double] = [:]
  let base: Double
  let radix: Double
  let dynamic: Cost
  let `static`: Cost
  /// Within which the default stays.
  var bounds = -1.0...10.0

  /// The limit of models of `scheme`.
  package func value(for scheme: ModelScheme) -> Double {
    if let value = byScheme[scheme] ?? all { return value }
    func step(_ bits: Int) -> Double {
      bits >= 16 ? 0 : (0..<bits).reduce(1) { step, _ in step / radix }
    }
    let cost = scheme.isStatic ? self.static : dynamic
    let value = base + cost.weights * step(scheme.weightBits) + cost.activations * step(scheme.activationBits)
    return min(max(value, bounds.lowerBound), bounds.upperBound)
  }
}
