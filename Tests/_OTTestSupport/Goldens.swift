import OTCheckpoint
import OTFoundation
import OTTensor

/// Reference values: a safetensors file that another program has written.
package struct Goldens: Sendable {
  private let checkpoint: Checkpoint
  private let path: String

  package init(path: String) throws {
    checkpoint = try Checkpoint.open(path)
    self.path = path
  }

  /// The dimensions of a tensor; nil where there is none of that name.
  package func dimensions(_ name: String) -> [Int]? { checkpoint[name]?.shape.dimensions }

  /// All elements of an int64 tensor, or one row of its first dimension.
  package func integers(_ name: String, row: Int? = nil) throws -> [Int] {
    try elements(name, row, .i64, as: Int64.self).map(Int.init)
  }

  /// All elements of a float32 tensor, or one row of its first dimension.
  package func floats(_ name: String, row: Int? = nil) throws -> [Float] {
    try elements(name, row, .f32, as: Float.self)
  }

  /// All elements of a uint8 tensor.
  package func bytes(_ name: String) throws -> [UInt8] { try elements(name, nil, .u8, as: UInt8.self) }

  private func elements<Element: BitwiseCopyable>(
    _ name: String, _ row: Int?, _ type: ElementType, as: Element.Type
  ) throws -> [Element] {
    guard let tensor = checkpoint[name], tensor.elementType == type else {
      throw Refusal("goldens", "has no \(type.rawValue) tensor '\(name)'", file: path)
    }
    return tensor.withRowBytes(row.map { $0..<$0 + 1 } ?? 0..<tensor.shape.rowCount) { bytes in
      let size = MemoryLayout<Element>.size
      return (0..<bytes.count / size).map { bytes.loadUnaligned(fromByteOffset: $0 * size, as: Element.self) }
    }
  }
}
