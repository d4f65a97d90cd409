import OTFoundation
import OTGraph
import OTKernels
import OTRuntime
import OTTensor

/// Makes a graph's parameters of a checkpoint's tensors, as `ParameterUse` says: the one place that
/// does. `restore` undoes it.
package struct ParameterReader: Sendable {
  private let tensors: [String: TensorView]

  /// Parameters from `tensors`, by the checkpoint's names.
  package init(_ tensors: [String: TensorView]) { self.tensors = tensors }

  /// Parameters from `tensors`; of two with one name the first counts.
  package init(_ tensors: [TensorView]) {
    self.init(Dictionary(tensors.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first }))
  }

  /// The rows of a table or a weight `[out, in]`, transformed.
  ///
  /// - Throws: `Refusal` with rule `parameter-missing`, `parameter-shape` or `parameter-type`.
  package func rows(of use: ParameterUse) throws -> TransformedRows {
    let (view, constant) = try view(of: use.tensor, use.shape)
    guard use.role == .weight else { return try TransformedRows(view: view, constant: constant) }
    return try TransformedRows(
      view: view, constant: constant, input: use.input, inputRotation: use.inputRotation, output: use.output)
  }

  /// Entries of a parameter of one dimension.
  ///
  /// - Parameter shiftProduct: W·z_in of the rows, where whoever quantized the
  ///   weight has it already; computed again when nil.
  /// - Throws: as `rows(of:)`.
  /// - Precondition: `use` is neither a table nor a weight.
  package func vector(_ use: ParameterUse, rows: Range<Int>, shiftProduct: [Float]? = nil) throws -> [Float] {
    switch use.role {
    case .table, .distances, .weight: preconditionFailure("is a matrix")
    case .bias:
      var values = try stored(use, rows: rows, absent: 0)
      if let product = try shiftProduct ?? self.shiftProduct(of: use, rows: rows) {
        for index in values.indices { values[index] += product[index] }
      }
      return transformed(values, rows: rows, by: use.output)
    case .gamma:
      return transformed(
        try stored(use, rows: rows, absent: 1), rows: rows, by: ChannelTransform(scale: use.output.scale))
    case .sinks, .choiceBias: return try stored(use, rows: rows, absent: 0)
    case .beta:
      return transformed(try stored(use, rows: rows, absent: 0), rows: rows, by: use.output)
    case .shift: return Array((use.output.shift ?? [])[rows])
    case .scale: return Array((use.output.scale ?? [])[rows])
    }
  }

  /// W·z_in of the checkpoint's own weight, which a bias takes up; nil where the input is not shifted.
  private func shiftProduct(of bias: ParameterUse, rows: Range<Int>) throws -> [Float]? {
    guard let shift = bias.input.shift else { return nil }
    guard let shape = Shape([bias.shape.rowCount, shift.count]) else {
      throw Refusal("parameter-shape", "has too many elements", tensor: bias.weightTensor?.name)
    }
    let (view, constant) = try view(of: bias.weightTensor, shape)
    let weights = try TransformedRows(view: view, constant: constant).values(rows: rows)
    return stride(from: 0, to: weights.count, by: max(shift.count, 1)).map {
      dot(weights[$0..<$0 + shift.count], shift)
    }
  }

  private func transformed(_ values: [Float], rows: Range<Int>, by transform: ChannelTransform) -> [Float] {
    var values = values
    for (index, row) in rows.enumerated() {
      if let shift = transform.shift { values[index] -= shift[row] }
      if let scale = transform.scale { values[index] /= scale[row] }
    }
    return values
  }

  // MARK: Reading

  private func stored(_ use: ParameterUse, rows: Range<Int>, absent: Float) throws -> [Float] {
    guard let tensor = use.tensor else { return [Float](repeating: absent, count: rows.count) }
    let (view, constant) = try view(of: tensor, use.shape)
    return try TransformedRows(view: view, constant: constant).values(rows: rows)
  }

  private func view(of source: SourceTensor?, _ shape: Shape) throws -> (view: TensorView, constant: Float) {
    guard let source, let whole = tensors[source.name] else {
      throw Refusal("parameter-missing", "the checkpoint does not have it", tensor: source?.name)
    }
    guard let view = source.view(of: whole), view.shape == shape else {
      throw Refusal(
        "parameter-shape", "is \(whole.shape), the graph needs \(shape) of \(source)", file: whole.file.path,
        tensor: source.name)
    }
    guard view.elementType.isConvertibleFloat else {
      throw Refusal(
        "parameter-type", "has elements \(view.elementType.rawValue), not floats", file: view.file.path,
        tensor: source.name)
    }
    return (view, source.constant)
  }
}

extension ParameterReader: ParameterSource {
  /// - Throws: `Refusal` with rule `parameter-missing`, `parameter-shape` or `parameter-type`.
  package func read(_ use: ParameterUse, rows: Range<Int>, into target: UnsafeMutableBufferPointer<Float>) throws {
    switch use.role {
    case .table, .distances, .weight:
      precondition(rows.lowerBound >= 0 && rows.upperBound <= use.shape.rowCount)
      try self.rows(of: use).read(rows: rows, into: target)
    default: _ = target.update(fromContentsOf: try vector(use, rows: rows))
    }
  }
}

// MARK: - Backward

extension ParameterReader {
  /// Undoes what `read` does to rows of a parameter from `firstRow` on, in place.
  ///
  /// Weights become `R(ŵ · s_out[row]) / s_in[column]`, `R` being its own inverse, gains `γ̂ · s_out`, offsets and biases
  /// `b̂ · s_out + z_out`; then the constant of the parameter's source is taken away.
  ///
  /// - Parameter shiftProduct: Ŵ·z_in of the rows of the restored weight, which a bias gives back,
  ///   so that the float function of what is restored is that of the packed model; nil where
  ///   the input is not shifted.
  package static func restore(
    _ use: ParameterUse, firstRow: Int, _ values: inout [Float], shiftProduct: [Float]? = nil
  ) {
    let output = use.output
    switch use.role {
    case .weight:
      let columnCount = max(use.shape.rowElementCount, 1)
      for start in stride(from: 0, to: values.count, by: columnCount) {
        let rowScale = output.scale?[firstRow + start / columnCount] ?? 1
        guard let rotation = use.inputRotation else {
          for column in 0..<columnCount {
            values[start + column] = values[start + column] * rowScale / (use.input.scale?[column] ?? 1)
          }
          continue
        }
        for column in start..<start + columnCount { values[column] *= rowScale }
        values.withUnsafeMutableBufferPointer { values in
          let row = UnsafeMutableBufferPointer(rebasing: values[start..<start + columnCount])
          Kernels.current.hadamard(UnsafeBufferPointer(row), blockSize: rotation.blockSize, into: row)
        }
        guard let scale = use.input.scale else { continue }
        for column in 0..<columnCount { values[start + column] /= scale[column] }
      }
    case .gamma:
      for index in values.indices { values[index] *= output.scale?[firstRow + index] ?? 1 }
    case .beta, .bias:
      for index in values.indices {
        values[index] =
          values[index] * (output.scale?[firstRow + index] ?? 1) + (output.shift?[firstRow + index] ?? 0)
      }
      if let shiftProduct {
        for index in values.indices { values[index] -= shiftProduct[index] }
      }
    case .table, .distances, .sinks, .choiceBias, .shift, .scale: break
    }
    if let constant = use.tensor?.constant, constant != 0 {
      for index in values.indices { values[index] -= constant }
    }
  }

  /// Ŵ·z of restored rows `[rows, columns]` of a weight.
  package static func shiftProduct(ofRestored values: [Float], shift: [Float]) -> [Float] {
    stride(from: 0, to: values.count, by: max(shift.count, 1)).map { dot(values[$0..<$0 + shift.count], shift) }
  }
}

private func dot(_ a: ArraySlice<Float>, _ b: [Float]) -> Float {
  a.withUnsafeBufferPointer { a in
    b.withUnsafeBufferPointer { b in Kernels.current.dot(a, b) }
  }
}
