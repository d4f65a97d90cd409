/// A limit that depends on a model's scheme.
public struct SchemeLimit: Sendable, Hashable {
  /// Holds for schemes that are not in `byScheme`; nil: the default does.
  public var all: Double?
  /// Limits of certain schemes.
  public var byScheme: [ModelScheme: Double] = [:]
  /// The default: `base + weights · 2^−(weight bits) + activations · 2^−(activation bits)`,
  /// within `bounds`; 16 bits, which stand for floats, add nothing.
  let base: Double
  let weights: Double
  let activations: Double
  let bounds: ClosedRange<Double>

  /// A default by what a bit of each kind costs.
  init(base: Double, weights: Double, activations: Double, bounds: ClosedRange<Double>) {
    (self.base, self.weights, self.activations, self.bounds) = (base, weights, activations, bounds)
  }

  /// The limit of models of `scheme`.
  public func value(for scheme: ModelScheme) -> Double {
    if let value = byScheme[scheme] ?? all { return value }
    func step(_ bits: Int) -> Double { bits >= 16 ? 0 : 1 / Double(1 << bits) }
    let value = base + weights * step(scheme.weightBits) + activations * step(scheme.activationBits)
    return min(max(value, bounds.lowerBound), bounds.upperBound)
  }
}
