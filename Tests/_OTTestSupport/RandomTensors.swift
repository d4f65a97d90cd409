import Foundation
import OTFoundation
import OTTensor

/// Float32 tensors with random elements, in a mapped file that is gone once they are.
package enum RandomTensors {
  /// One tensor for each entry of `shapes`, the same for the same seed.
  ///
  /// Vectors are uniform in ±1, matrices in ±√(3/columns): a linear then keeps
  /// the variance of its input.
  package static func views(_ shapes: [String: [Int]], seed: UInt64) throws -> [TensorView] {
    var generator = SeededGenerator(seed: seed)
    var values: [Float] = []
    var offsets: [(name: String, shape: Shape, offset: Int)] = []
    for (name, dimensions) in shapes.sorted(by: { $0.key < $1.key }) {
      guard let shape = Shape(dimensions) else { preconditionFailure("\(name): \(dimensions)") }
      offsets.append((name, shape, values.count * 4))
      let bound = shape.rank < 2 ? 1 : (3 / Float(shape.rowElementCount)).squareRoot()
      for _ in 0..<shape.elementCount {
        values.append(Float.random(in: -bound...bound, using: &generator))
      }
    }
    let file = try withTemporaryFolder { folder in
      try values.withUnsafeBytes { try Data($0).write(to: URL(fileURLWithPath: folder + "/t")) }
      return try MappedFile(path: folder + "/t")
    }
    return offsets.map {
      TensorView(
        name: $0.name, elementType: .f32, shape: $0.shape, file: file, byteOffset: $0.offset)
    }
  }
}
