import OTFoundation
import OTGraph
import OTKernels
import OTQuantization
import OTRuntime
import OTTensor

/// Serves a graph's parameters from the tensors of a checkpoint, applying what
/// migration did, in the arithmetic that `ParameterUse` describes.
package struct CheckpointParameters: Sendable {
  private let tensors: [String: TensorView]

  /// Parameters from `tensors`, by the checkpoint's names.
  package init(_ tensors: [String: TensorView]) { self.tensors = tensors }

  /// Parameters from `tensors`; of two with one name the first counts.
  package init(_ tensors: [TensorView]) {
    self.init(Dictionary(tensors.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first }))
  }
}

extension CheckpointParameters: ParameterSource {
  /// - Throws: `Refusal` with rule `parameter-missing`, `parameter-shape` or
  ///   `parameter-type`.
  package func read(
    _ use: ParameterUse, rows: Range<Int>, into target: UnsafeMutableBufferPointer<Float>
  ) throws {
    switch use.role {
    case .table: try read(use.tensor, use.shape, rows: rows, into: target)
    case .weight:
      try read(use.tensor, use.shape, rows: rows, input: use.input, output: use.output, into: target)
    default: _ = target.update(fromContentsOf: try vector(use, rows: rows))
    }
  }

  /// Entries of a parameter of one dimension.
  ///
  /// - Parameter shiftProduct: W·z_in of the rows, where whoever quantized the
  ///   weight has it already; computed again when nil.
  /// - Precondition: `use` is neither a table nor a weight.
  func vector(_ use: ParameterUse, rows: Range<Int>, shiftProduct: [Float]? = nil) throws -> [Float] {
    switch use.role {
    case .table, .weight: preconditionFailure("is a matrix")
    case .bias:
      var values = try stored(orZeros: use, rows: rows)
      if let shiftProduct {
        for index in values.indices { values[index] += shiftProduct[index] }
      } else if let shift = use.input.shift {
        let weightShape = try shape(of: use, columnCount: shift.count)
        let weights = try stored(use.weightTensor, weightShape, rows: rows)
        for index in values.indices {
          values[index] += dot(
            weights[index * shift.count..<(index + 1) * shift.count], with: shift)
        }
      }
      return transformed(values, rows: rows, by: use.output)
    case .gamma:
      let values =
        try use.tensor.map { try stored($0, use.shape, rows: rows) }
        ?? [Float](repeating: 1, count: rows.count)
      return transformed(values, rows: rows, by: ChannelTransform(scale: use.output.scale))
    case .beta:
      return transformed(try stored(orZeros: use, rows: rows), rows: rows, by: use.output)
    case .shift:
      return Array((use.output.shift ?? [])[rows])
    case .scale:
      return Array((use.output.scale ?? [])[rows])
    }
  }

  private func shape(of bias: ParameterUse, columnCount: Int) throws -> Shape {
    guard let shape = Shape([bias.shape.rowCount, columnCount]) else {
      throw Refusal("parameter-shape", "has too many elements", tensor: bias.weightTensor?.name)
    }
    return shape
  }

  // MARK: Transforms

  private func transformed(
    _ values: [Float], rows: Range<Int>, by transform: ChannelTransform
  ) -> [Float] {
    var values = values
    for (index, row) in rows.enumerated() {
      if let shift = transform.shift { values[index] -= shift[row] }
      if let scale = transform.scale { values[index] /= scale[row] }
    }
    return values
  }

  private func dot(_ a: ArraySlice<Float>, with b: [Float]) -> Float {
    a.withUnsafeBufferPointer { a in
      b.withUnsafeBufferPointer { b in Kernels.current.dot(a, b) }
    }
  }

  // MARK: Reading

  private func stored(orZeros use: ParameterUse, rows: Range<Int>) throws -> [Float] {
    try use.tensor.map { try stored($0, use.shape, rows: rows) }
      ?? [Float](repeating: 0, count: rows.count)
  }

  private func stored(
    _ source: SourceTensor?, _ shape: Shape, rows: Range<Int>
  ) throws -> [Float] {
    let count = rows.count * shape.rowElementCount
    return try [Float](unsafeUninitializedCapacity: count) { buffer, initializedCount in
      try read(source, shape, rows: rows, into: UnsafeMutableBufferPointer(rebasing: buffer[..<count]))
      initializedCount = count
    }
  }

  private func read(
    _ source: SourceTensor?, _ shape: Shape, rows: Range<Int>, input: ChannelTransform = .identity,
    output: ChannelTransform = .identity, into target: UnsafeMutableBufferPointer<Float>
  ) throws {
    guard let source, let whole = tensors[source.name] else {
      throw Refusal("parameter-missing", "the checkpoint does not have it", tensor: source?.name)
    }
    guard let tensor = source.view(of: whole), tensor.shape == shape else {
      throw Refusal(
        "parameter-shape", "is \(whole.shape), the graph needs \(shape) of \(source)", file: whole.file.path,
        tensor: source.name)
    }
    guard tensor.elementType.isConvertibleFloat else {
      throw Refusal(
        "parameter-type", "has elements \(tensor.elementType.rawValue), not floats",
        file: tensor.file.path, tensor: source.name)
    }
    precondition(rows.lowerBound >= 0 && rows.upperBound <= shape.rowCount)
    let transform = WeightTransform(
      columnScale: input.scale, rowScale: output.scale, constant: source.constant)
    try TransformedRows(view: tensor, transform: transform).read(rows: rows, into: target)
  }
}
