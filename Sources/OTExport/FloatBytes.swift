import OTFoundation
import OTKernels
import OTTensor

/// Floats as elements of another type.
package enum FloatBytes {
  /// Calls `body` with `values` as elements of `type`.
  ///
  /// - Parameters:
  ///   - tensor: its name, for refusals.
  ///   - remedy: the way out of an overflow.
  /// - Precondition: `type` is a float type that can be converted.
  /// - Throws: `Refusal` with rule `value-overflow`; what `body` throws.
  package static func with<Result>(
    _ values: [Float], as type: ElementType, of tensor: String, in file: String?, remedy: String?,
    _ body: (UnsafeRawBufferPointer) throws -> Result
  ) throws -> Result {
    switch type {
    case .f32: return try values.withUnsafeBytes(body)
    case .f64: return try values.map(Double.init).withUnsafeBytes(body)
    default:
      if let index = values.firstIndex(where: { !(abs($0) < overflow(type)) }) {
        throw Refusal(
          "value-overflow", "\(values[index]) does not fit \(type == .f16 ? "float16" : "bfloat16")", file: file,
          tensor: tensor, remedy: remedy)
      }
      let byteCount = values.count * type.bitWidth / 8
      let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: 64)
      defer { bytes.deallocate() }
      values.withUnsafeBufferPointer { Kernels.current.convert($0, to: type, into: bytes) }
      return try body(UnsafeRawBufferPointer(bytes))
    }
  }

  /// Elements of float32, wherever they lie: those of a mapped file may begin at any byte.
  static func floats(_ bytes: UnsafeRawBufferPointer) -> [Float] {
    let count = bytes.count / 4
    return [Float](unsafeUninitializedCapacity: count) { floats, initialized in
      if let from = bytes.baseAddress, let to = floats.baseAddress {
        UnsafeMutableRawPointer(to).copyMemory(from: from, byteCount: count * 4)
      }
      initialized = count
    }
  }

  /// The least magnitude that rounds to infinity.
  private static func overflow(_ type: ElementType) -> Float { type == .f16 ? 65520 : 0x1.FFp127 }
}
