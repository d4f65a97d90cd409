import OTGraph
import OTRuntime
import OTTensor

/// Serves a graph's parameters from the tensors of a checkpoint, applying what
/// migration did, in the arithmetic that `ParameterUse` describes.
public struct CheckpointParameters: Sendable {
  private let tensors: [String: TensorView]

  /// Parameters from `tensors`, by the checkpoint's names.
  public init(_ tensors: [String: TensorView]) { self.tensors = tensors }

  /// Parameters from `tensors`; of two with one name the first counts.
  public init(_ tensors: [TensorView]) {
    self.init(Dictionary(tensors.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first }))
  }
}

extension CheckpointParameters: ParameterSource {
  /// - Throws: `Refusal` with rule `parameter-missing`, `parameter-shape` or
  ///   `parameter-type`.
  public func values(of use: ParameterUse, rows: Range<Int>) throws -> [Float] {
    switch use.role {
    case .table:
      return try stored(use.tensor, use.shape, rows: rows)
    case .weight:
      var values = try stored(use.tensor, use.shape, rows: rows)
      transform(&values, rows: rows, input: use.input.scale, output: use.output.scale)
      return values
    case .bias:
      var values = try stored(orZeros: use, rows: rows)
      if let shift = use.input.shift {
        let weightShape = try shape(of: use, columnCount: shift.count)
        let weights = try stored(use.weightTensor, weightShape, rows: rows)
        for index in values.indices {
          let row = weights[index * shift.count..<(index + 1) * shift.count]
          values[index] += CheckpointParameters.dot(row, shift)
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
      throw Refusal("parameter-shape", "has too many elements", tensor: bias.weightTensor)
    }
    return shape
  }

  // MARK: Transforms

  private func transform(
    _ values: inout [Float], rows: Range<Int>, input: [Float]?, output: [Float]?
  ) {
    guard input != nil || output != nil else { return }
    let columnCount = values.count / max(rows.count, 1)
    for index in 0..<rows.count {
      let elements = index * columnCount..<(index + 1) * columnCount
      if let input {
        for (element, scale) in zip(elements, input) { values[element] *= scale }
      }
      if let divisor = output?[rows.lowerBound + index] {
        for element in elements { values[element] /= divisor }
      }
    }
  }

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

  /// Dot product in the kernels' order: 16 interleaved lanes, then halves onto halves.
  private static func dot(_ a: ArraySlice<Float>, _ b: [Float]) -> Float {
    var sums = SIMD16<Float>.zero
    for index in b.indices { sums[index % 16] += a[a.startIndex + index] * b[index] }
    let eight = sums.lowHalf + sums.highHalf
    let four = eight.lowHalf + eight.highHalf
    let two = four.lowHalf + four.highHalf
    return two[0] + two[1]
  }

  // MARK: Reading

  private func stored(orZeros use: ParameterUse, rows: Range<Int>) throws -> [Float] {
    try use.tensor.map { try stored($0, use.shape, rows: rows) }
      ?? [Float](repeating: 0, count: rows.count)
  }

  private func stored(_ name: String?, _ shape: Shape, rows: Range<Int>) throws -> [Float] {
    guard let name, let tensor = tensors[name] else {
      throw Refusal("parameter-missing", "the checkpoint does not have it", tensor: name)
    }
    guard tensor.shape == shape else {
      throw Refusal(
        "parameter-shape", "is \(tensor.shape), the graph needs \(shape)", file: tensor.file.path,
        tensor: name)
    }
    guard tensor.elementType.isConvertibleFloat else {
      throw Refusal(
        "parameter-type", "has elements \(tensor.elementType.rawValue), not floats",
        file: tensor.file.path, tensor: name)
    }
    precondition(rows.lowerBound >= 0 && rows.upperBound <= shape.rowCount)
    return tensor.withRowBytes(rows) { CheckpointParameters.floats($0, tensor.elementType) }
  }

  /// - Precondition: the type is F64, F32, F16 or BF16.
  private static func floats(_ bytes: UnsafeRawBufferPointer, _ type: ElementType) -> [Float] {
    let count = bytes.count / (type.bitWidth / 8)
    func load<Bits: FixedWidthInteger>(_ index: Int, as type: Bits.Type) -> Bits {
      let offset = index * MemoryLayout<Bits>.size
      return Bits(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: type))
    }
    return [Float](unsafeUninitializedCapacity: count) { target, initializedCount in
      switch type {
      case .f64:
        for i in 0..<count { target[i] = Float(Double(bitPattern: load(i, as: UInt64.self))) }
      case .f32:
        for i in 0..<count { target[i] = Float(bitPattern: load(i, as: UInt32.self)) }
      case .f16:
        for i in 0..<count { target[i] = Float(Float16(bitPattern: load(i, as: UInt16.self))) }
      case .bf16:
        for i in 0..<count {
          target[i] = Float(bitPattern: UInt32(load(i, as: UInt16.self)) << 16)
        }
      default:
        preconditionFailure("checked by the caller")
      }
      initializedCount = count
    }
  }
}
