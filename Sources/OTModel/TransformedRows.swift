import OTFoundation
import OTGraph
import OTKernels
import OTTensor

/// The rows of a float tensor as float32, after what migration does to them.
///
/// Element by element `((w + constant) · s_in[column]) / s_out[row]`, each
/// operation rounded once to float32; absent vectors leave their step out. Where the value
/// that the weight multiplies is rotated, so is each row, between the two steps.
/// Serves every reader of transformed weights: the quantizer, the writer of
/// float tensors, verification and the float executor. Untransformed, a
/// tensor of any rank will do; a row is one index of its first dimension.
package struct TransformedRows: Sendable {
  /// The source.
  package let view: TensorView
  /// Added to every element before all else.
  package let constant: Float
  /// The transform of the value that the weight multiplies: `s_in`, and `z_in` for products with it.
  package let input: ChannelTransform
  /// The rotation of that value; nil: none.
  package let inputRotation: Rotation?
  /// The transform of the weight's own value: `s_out`.
  package let output: ChannelTransform
  /// The reader that transforms.
  package let kernels: Kernels

  /// - Throws: `Refusal` with rule `weight-not-float` when the elements are no
  ///   floats, `weight-not-matrix` when a transform is given for a tensor that is
  ///   not `[out, in]`, `transform-mismatch` when its vectors are of other lengths.
  package init(
    view: TensorView, constant: Float = 0, input: ChannelTransform = .identity, inputRotation: Rotation? = nil,
    output: ChannelTransform = .identity, kernels: Kernels = .current
  ) throws {
    guard view.elementType.isConvertibleFloat else {
      throw Refusal(
        "weight-not-float", "elements are \(view.elementType.rawValue), not F64, F32, F16 or BF16",
        file: view.file.path, tensor: view.name)
    }
    if !input.isIdentity || inputRotation != nil || output.scale != nil {
      guard view.shape.rank == 2 else {
        throw Refusal(
          "weight-not-matrix", "shape \(view.shape) is not [out, in]",
          file: view.file.path, tensor: view.name)
      }
    }
    let vectors = [
      ("column scales", input.scale, view.shape.rowElementCount),
      ("column shifts", input.shift, view.shape.rowElementCount),
      ("row scales", output.scale, view.shape.rowCount),
    ]
    if let inputRotation, view.shape.rowElementCount % inputRotation.blockSize != 0 {
      throw Refusal(
        "transform-mismatch", "rotated blocks of \(inputRotation.blockSize) for a weight of shape \(view.shape)",
        file: view.file.path, tensor: view.name)
    }
    for (name, values, expected) in vectors {
      guard let values, values.count != expected else { continue }
      throw Refusal(
        "transform-mismatch", "\(values.count) \(name) for a weight of shape \(view.shape)",
        file: view.file.path, tensor: view.name)
    }
    self.view = view
    self.constant = constant
    self.input = input
    self.inputRotation = inputRotation
    self.output = output
    self.kernels = kernels
  }

  /// True when weights are as the file has them; a shift alone does not change them.
  package var areUnchanged: Bool { constant == 0 && input.scale == nil && inputRotation == nil && output.scale == nil }

  /// Elements of a row.
  package var rowElementCount: Int { view.shape.rowElementCount }

  /// Reads rows of the transformed tensor, row-major.
  ///
  /// Values are not checked: what is NaN or infinite stays so.
  /// - Precondition: `rows` are rows of the tensor, and `target` has exactly
  ///   their elements.
  package func read(rows: Range<Int>, into target: UnsafeMutableBufferPointer<Float>) {
    readOriginal(rows: rows, into: target)
    guard !areUnchanged else { return }
    for row in rows {
      let start = (row - rows.lowerBound) * rowElementCount
      applyTransform(
        row: row, UnsafeMutableBufferPointer(rebasing: target[start..<start + rowElementCount]))
    }
  }

  /// Rows of the transformed tensor, row-major.
  ///
  /// - Precondition: `rows` are rows of the tensor.
  package func values(rows: Range<Int>) -> [Float] {
    let count = rows.count * rowElementCount
    return [Float](unsafeUninitializedCapacity: count) { buffer, initializedCount in
      read(rows: rows, into: UnsafeMutableBufferPointer(rebasing: buffer[..<count]))
      initializedCount = count
    }
  }

  /// Reads rows as the file has them, plus the constant.
  package func readOriginal(rows: Range<Int>, into target: UnsafeMutableBufferPointer<Float>) {
    precondition(target.count == rows.count * rowElementCount, "counts differ")
    view.withRowBytes(rows) { kernels.convert($0, from: view.elementType, to: target) }
    if constant != 0 {
      for index in target.indices { target[index] += constant }
    }
  }

  /// Makes W' of one row of W, in place.
  package func applyTransform(row: Int, _ values: UnsafeMutableBufferPointer<Float>) {
    let rowScale = output.scale?[row]
    if let inputRotation {
      input.scale?.withUnsafeBufferPointer { kernels.transform(values, columnScale: $0, rowScale: nil) }
      kernels.hadamard(UnsafeBufferPointer(values), blockSize: inputRotation.blockSize, into: values)
      if rowScale != nil { kernels.transform(values, columnScale: nil, rowScale: rowScale) }
    } else if let columnScale = input.scale {
      columnScale.withUnsafeBufferPointer {
        kernels.transform(values, columnScale: $0, rowScale: rowScale)
      }
    } else if rowScale != nil {
      kernels.transform(values, columnScale: nil, rowScale: rowScale)
    }
  }

  /// W·columnShift of one row of the original weight, in the kernels' 16 lanes.
  package func shiftProduct(_ original: UnsafeBufferPointer<Float>) -> Float? {
    input.shift?.withUnsafeBufferPointer { kernels.dot(original, $0) }
  }

  /// The refusal of element `[row, column]`, which is not finite after the transform.
  package func nonFiniteRefusal(row: Int, column: Int) -> Refusal {
    // A rotation spreads what is not finite over its block.
    let blockSize = inputRotation?.blockSize ?? 1
    let block = column / blockSize * blockSize..<(column / blockSize + 1) * blockSize
    let column = block.first { !isFiniteInFile(row: row, column: $0) } ?? column
    let strides = view.strides
    let element = row * (strides.first ?? 0) + (view.columns?[column] ?? column) * (strides.count > 1 ? strides[1] : 0)
    // Of what is decoded, the place of one element is nobody's to look at.
    let byteOffset = view.decoder == nil ? view.byteOffset + element * view.elementType.bitWidth / 8 : nil
    let position = "element [\(row), \(column)]"
    guard isFiniteInFile(row: row, column: column) else {
      return Refusal(
        "weight-not-finite", "\(position) is NaN or infinite", file: view.file.path,
        tensor: view.name, byteOffset: byteOffset, remedy: "repair the checkpoint")
    }
    return Refusal(
      "weight-overflow", "\(position) does not fit float32 after the transform",
      file: view.file.path, tensor: view.name, byteOffset: byteOffset)
  }

  private func isFiniteInFile(row: Int, column: Int) -> Bool {
    let byteCount = view.elementType.bitWidth / 8
    return view.withRowBytes(row..<row + 1) { bytes in
      if view.elementType == .f64 {
        let bits = bytes.loadUnaligned(fromByteOffset: column * 8, as: UInt64.self)
        return Double(bitPattern: UInt64(littleEndian: bits)).isFinite
      }
      let element = UnsafeRawBufferPointer(
        rebasing: bytes[column * byteCount..<(column + 1) * byteCount])
      var value: Float = 0
      withUnsafeMutablePointer(to: &value) {
        kernels.convert(
          element, from: view.elementType, to: UnsafeMutableBufferPointer(start: $0, count: 1))
      }
      return value.isFinite
    }
  }
}
