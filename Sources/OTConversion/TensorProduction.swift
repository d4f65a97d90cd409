import OTExport
import OTFoundation
import OTGraph
import OTKernels
import OTModel
import OTObservation
import OTQuantization
import OTTensor

/// Makes the rows of a planned tensor with the content that a writer wants.
struct TensorProduction: Sendable {
  /// The tensor that is made.
  let tensor: ExportedTensor
  /// Quantizes it; nil where it stays plain, or is rounded already.
  private let quantizer: WeightQuantizer?
  /// The weights that are rounded already, where it is one of them.
  private let rounded: RoundedWeights?
  private let planned: PlannedTensor
  private let parameters: ParameterReader

  /// - Parameter rounded: the weights that are rounded already.
  /// - Throws: `Refusal` with rule `rounding-samples` for a weight that should be among them, or as
  ///   `WeightQuantizer` and `TransformedRows` throw.
  init(
    _ tensor: ExportedTensor, _ planned: PlannedTensor, _ parameters: ParameterReader, _ rounded: RoundedWeights?,
    threadCount: Int
  ) throws {
    self.tensor = tensor
    self.planned = planned
    self.parameters = parameters
    guard case .quantized(let scheme, _) = tensor.content, let view = planned.view else {
      (quantizer, self.rounded) = (nil, nil)
      return
    }
    guard planned.rounding.needs.isEmpty else {
      guard let rounded, let node = planned.use?.node, rounded.has(node) else {
        throw Refusal(
          "rounding-samples", "rounding '\(planned.rounding.kind.name)' goes by text, and there is none",
          tensor: tensor.name, remedy: "let the model be calibrated, or take --rounding nearest")
      }
      (quantizer, self.rounded) = (nil, rounded)
      return
    }
    quantizer = try WeightQuantizer(
      planned.rows(of: view), scheme: scheme, rounding: planned.rounding.fitted(to: SiteObservations()),
      inputZero: planned.use?.inputZero ?? 0, threadCount: threadCount)
    self.rounded = nil
  }

  /// The rows of a tensor that becomes quantized values; nil for others.
  ///
  /// - Throws: as `WeightQuantizer` and `RoundedWeights` throw.
  func quantized(_ rows: Range<Int>) throws -> QuantizedRows? {
    if let quantizer { return try quantizer.quantize(rows: rows) }
    return try tensor.use.flatMap { try rounded?.rows(rows, of: $0.node) }
  }

  /// The source's elements; nil for what conversion created.
  var view: TensorView? { planned.view }

  /// True when blocks of it are made on several threads. Vectors are not: biases need W·z, which
  /// the writing thread has.
  var isLarge: Bool {
    if case .alias = tensor.content { return false }
    return quantizer != nil || rounded != nil
      || view != nil && tensor.shape.rank > 1 && tensor.shape.elementCount > TensorProduction.smallElementCount
  }

  private static let smallElementCount = 1 << 16

  /// Bytes of the source's rows.
  func sourceByteCount(_ rows: Range<Int>) -> Int {
    guard let view else { return 0 }
    return rows.count * view.shape.rowElementCount * view.elementType.bitWidth / 8
  }

  /// Calls `body` with rows of a plain tensor as elements of its type.
  ///
  /// - Parameter shiftProduct: as `ParameterReader.vector` takes it.
  /// - Returns: the result of `body`, and whether all elements are finite; they are where the model needs them.
  /// - Throws: `Refusal` with a rule `weight-…`, `parameter-…` or `value-overflow`; what `body` throws.
  func withPlainRows<Result>(
    _ rows: Range<Int>, shiftProduct: [Float]?, _ body: (UnsafeRawBufferPointer) throws -> Result
  ) throws -> (result: Result, isFinite: Bool) {
    guard let type = tensor.plainType else { preconditionFailure("not plain") }
    func isFinite(_ index: Int?, _ value: @autoclosure () -> String) throws -> Bool {
      guard let index else { return true }
      guard !planned.requiresFinite else {
        throw Refusal(
          "weight-not-finite", "element \(rows.lowerBound * tensor.shape.rowElementCount + index) is \(value())",
          file: view?.file.path, tensor: tensor.name, remedy: "repair the checkpoint")
      }
      return false
    }
    if let view, isCopied(view, as: type) {
      return try view.withRowBytes(rows) { bytes in
        let isFinite = try isFinite(type.firstNonFinite(in: bytes), "NaN or infinite")
        return (try body(bytes), isFinite)
      }
    }
    let floats = try floats(rows, shiftProduct)
    let index = floats.withUnsafeBufferPointer { Kernels.current.range($0) }.firstNonFinite
    let finite = try isFinite(index, index.map { "\(floats[$0])" } ?? "")
    let result = try FloatBytes.with(
      floats, as: type, of: tensor.name, in: view?.file.path, remedy: "keep it in another type of float", body)
    return (result, finite)
  }

  private func isCopied(_ view: TensorView, as type: ElementType) -> Bool {
    guard type == view.elementType else { return false }
    if case .unchanged = planned.treatment { return true }
    // float32 between would lose bits.
    return type == .f64 && planned.keepsElements
  }

  private func floats(_ rows: Range<Int>, _ shiftProduct: [Float]?) throws -> [Float] {
    if case .vector(let values) = planned.treatment { return Array(values[rows]) }
    if tensor.constant != 0 {
      // What nothing was done to is the source's, to the last bit.
      if let view, let use = tensor.use, use.output.isIdentity, use.tensor?.constant == tensor.constant {
        return try TransformedRows(view: view).values(rows: rows)
      }
      return try made(rows, shiftProduct).map { $0 - tensor.constant }
    }
    return try made(rows, shiftProduct)
  }

  private func made(_ rows: Range<Int>, _ shiftProduct: [Float]?) throws -> [Float] {
    if let use = tensor.use {
      return try use.role == .bias
        ? parameters.vector(use, rows: rows, shiftProduct: shiftProduct) : parameters.values(of: use, rows: rows)
    }
    guard let view else { return [] }
    return try TransformedRows(view: view).values(rows: rows)
  }
}
