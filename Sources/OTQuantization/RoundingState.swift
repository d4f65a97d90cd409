import OTObservation

/// What rounding some sites of a model, in order, leaves for those after them: `SequentialRounding`.
package struct RoundingState: Sendable {
  /// Values that later nodes need, as the network gives them whose weights are rounded so far.
  package var values = KeptValues()
  /// The same values of the float network, where a rule compares with it.
  package var floatValues = KeptValues()
  /// Rounded weights, by linear, that the samples have not passed yet: whole, without times and errors.
  package var weights: [String: QuantizedRows] = [:]

  /// Before the first site.
  package init() {}
}
