import OTContainer
import OTFoundation
import OTModel
import OTTensor

/// A tensor of a model file.
public struct ModelTensor: Sendable {
  /// The storage of a tensor's elements.
  public enum Storage: Sendable, Hashable {
    /// As they are, of a type named as safetensors does: `F32`, `F16`, `BF16`, `I64` ….
    case plain(type: String)
    /// Integer codes with a scale for each row, group or the tensor:
    /// value = scale × (code − zero point).
    case quantized(QuantizationScheme)
    /// The elements of another tensor.
    case alias(of: String)
  }

  /// Unique within the file.
  public let name: String
  /// Dimensions, outermost first; `[out, in]` for the weight of a linear.
  public let shape: [Int]
  /// The storage of the elements.
  public let storage: Storage
  /// Bytes that it takes in the file, scales and zero points included; 0 for an alias.
  public let byteCount: Int
  /// Loss of quantizing as signal to noise in decibels, as the converter
  /// measured it; nil where nothing was lost or measured.
  public let sqnrDecibels: Double?

  /// The place of the elements.
  package let source: ModelTensorSource

  /// Number of elements.
  public var elementCount: Int { shape.reduce(1, *) }

  /// Bits of a quantized tensor's codes; nil for others.
  public var bits: Int? { if case .quantized(let scheme) = storage { scheme.bits } else { nil } }

  /// The elements in float32, row-major; quantized ones are dequantized.
  ///
  /// In a packed file these are the parameters that the packed model runs
  /// with: activation scales and midpoints that the conversion moved into them
  /// are part of them. `otconvert unpack` takes them out again.
  ///
  /// - Throws: ``Refusal`` with rule `tensor-type` for elements that are no
  ///   floats, or `otq-…` for damaged data.
  /// - Complexity: O(`elementCount`) time and memory.
  public func values() throws(Refusal) -> [Float] { try values(rows: 0..<rowCount) }

  /// Rows of the elements, as ``values()`` gives them: a row has all elements of one index of the first dimension.
  ///
  /// - Throws: as ``values()``; with rule `tensor-rows` for rows that the tensor does not have.
  public func values(rows: Range<Int>) throws(Refusal) -> [Float] {
    try source.checkRows(rows)
    return try refusing {
      var values: [Float] = []
      try source.forEachBlock(of: rows) { values += $0 }
      return values
    }
  }

  /// The quantized values, a byte each, row-major: 0 … 2^bits − 1.
  ///
  /// - Throws: ``Refusal`` with rule `tensor-part` for a tensor that is not quantized, or `otq-…` for damaged data.
  public func codes() throws(Refusal) -> [UInt8] {
    try source.checkQuantized()
    return try bytes(.values)
  }

  /// The scales of a quantized tensor, as many as `QuantizationScheme.scaleCount` says: `[row, group]`.
  ///
  /// - Throws: as ``codes()``.
  public func scales() throws(Refusal) -> [Float] {
    try bytes(.scales).withUnsafeBytes { bytes in
      (0..<bytes.count / 4).map { bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) }
    }
  }

  /// The zero points of a quantized tensor, one to a scale.
  ///
  /// - Throws: as ``codes()``.
  public func zeroPoints() throws(Refusal) -> [UInt8] { try bytes(.zeroPoints) }

  private func bytes(_ part: ModelTensorSource.Part) throws(Refusal) -> [UInt8] {
    var bytes: [UInt8] = []
    try source.forEachBlock(of: part) { bytes += $0 }
    return bytes
  }

  /// Rows: the first dimension; 1 for a scalar.
  package var rowCount: Int { shape.first ?? 1 }

  init(_ file: PackedModel, _ tensor: StoredTensor) {
    name = tensor.name
    shape = tensor.shape.dimensions
    storage =
      switch tensor.content {
      case .plain(let type): .plain(type: type.rawValue)
      case .quantized(let scheme, _, _): .quantized(scheme)
      case .alias(let target): .alias(of: target)
      }
    byteCount = file.container.storedByteCount(of: tensor)
    sqnrDecibels = tensor.error?.sqnrDecibels
    // Aliases followed.
    source = .stored(file.container, file.container[tensor.name] ?? tensor)
  }

  init(_ view: TensorView) {
    name = view.name
    shape = view.shape.dimensions
    storage = .plain(type: view.elementType.rawValue)
    byteCount = view.byteCount
    sqnrDecibels = nil
    source = .view(view)
  }
}
