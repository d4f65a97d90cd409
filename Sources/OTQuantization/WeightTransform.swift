/// What migration does to a weight: W' = diag(1 / rowScale) · W · diag(columnScale).
///
/// Nil stands for all ones, or all zeros of a shift. Element by element
/// `(w · columnScale[k]) / rowScale[row]`, each operation rounded once to float32.
package struct WeightTransform: Sendable {
  /// One factor per input channel, `[in]`.
  package let columnScale: [Float]?
  /// The shift `z` of the input channels, `[in]`: asks for W·z of the original weight.
  package let columnShift: [Float]?
  /// One divisor per output channel, `[out]`.
  package let rowScale: [Float]?
  /// Added to every weight before all else.
  package let constant: Float

  /// The transform that leaves every weight as it is.
  package static let identity = WeightTransform()

  /// A transform; vectors that are nil change nothing.
  package init(
    columnScale: [Float]? = nil, columnShift: [Float]? = nil, rowScale: [Float]? = nil, constant: Float = 0
  ) {
    self.constant = constant
    self.columnScale = columnScale
    self.columnShift = columnShift
    self.rowScale = rowScale
  }

  /// Whether weights stay as they are; a shift alone does not change them.
  package var keepsWeights: Bool { columnScale == nil && rowScale == nil && constant == 0 }
}
