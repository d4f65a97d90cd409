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

  private let read: @Sendable () throws -> [Float]

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
  public func values() throws(Refusal) -> [Float] { try refusing(read) }

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
    read = {
      let container = file.container
      // Aliases followed.
      let stored = container[tensor.name] ?? tensor
      guard stored.scheme != nil else {
        guard case .plain(let type) = stored.content, type.isConvertibleFloat else {
          throw ModelTensor.notFloats(tensor.name, file: file.path)
        }
        return try container.floats(of: stored)
      }
      return try container.dequantized(
        stored, rowTiles: 0..<stored.layout.rowTileCount, scales: container.scales(of: stored),
        zeroPoints: container.zeroPoints(of: stored))
    }
  }

  init(_ view: TensorView) {
    name = view.name
    shape = view.shape.dimensions
    storage = .plain(type: view.elementType.rawValue)
    byteCount = view.byteCount
    sqnrDecibels = nil
    read = {
      guard view.elementType.isConvertibleFloat else {
        throw ModelTensor.notFloats(view.name, file: view.file.path)
      }
      return try TransformedRows(view: view).values(rows: 0..<view.shape.rowCount)
    }
  }

  private static func notFloats(_ name: String, file: String) -> Refusal {
    Refusal("tensor-type", "its elements are not floats", file: file, tensor: name)
  }
}
