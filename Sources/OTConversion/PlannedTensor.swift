import OTFoundation
import OTGraph
import OTModel
import OTTensor

/// One tensor of the output, and how it is made.
package struct PlannedTensor: Sendable {
  /// What becomes of a tensor.
  package enum Treatment: Sendable {
    /// Transformed and quantized.
    case quantized(QuantizationScheme)
    /// Evaluated as float32: norms, biases, and weights that are transformed but not quantized.
    case evaluated
    /// Converted to another float type, row by row.
    case converted(ElementType)
    /// Carried through byte for byte.
    case unchanged
    /// The same elements as an earlier tensor of the output.
    case alias(of: String)
    /// A vector of the graph's transforms.
    case vector([Float])
  }

  /// Name in the output.
  package let outputName: String
  /// Dimensions, those of the source where there is one.
  package let shape: Shape
  /// The source; nil for what conversion brings into being.
  package let view: TensorView?
  /// What the graph uses it for; nil for tensors that no node uses.
  package let use: ParameterUse?
  /// What becomes of it.
  package let treatment: Treatment

  /// Whether it is the weight of a linear inside a block.
  package var isBlockWeight: Bool { use?.role == .weight && use?.linearRole == .block }

  /// The element type of a tensor that is stored as it is.
  var plainType: ElementType? {
    switch treatment {
    case .quantized, .alias: nil
    case .evaluated, .vector: .f32
    case .converted(let type): type
    case .unchanged: view?.elementType
    }
  }

  /// The source's rows as float32, after what migration does to them.
  ///
  /// - Throws: as `TransformedRows`.
  package func rows(of view: TensorView) throws -> TransformedRows {
    let constant = use?.tensor?.constant ?? 0
    guard let use, use.role == .weight else { return try TransformedRows(view: view, constant: constant) }
    return try TransformedRows(view: view, constant: constant, input: use.input, output: use.output)
  }

  /// Whether the elements are the source's own.
  var keepsElements: Bool { use?.isUnchanged ?? true }
}
