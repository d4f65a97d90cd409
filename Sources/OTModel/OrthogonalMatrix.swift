import OTFoundation

/// An orthogonal matrix R = S·(H_p ⊗ Q): S random signs, H_p the normalized Hadamard matrix of the largest power of 2
/// that divides the size, Q a random rotation of the rest. In float64, the same for a seed everywhere.
package struct OrthogonalMatrix: Sendable {
  /// Rows and columns.
  package let size: Int
  private let signs: [Double]
  private let power: Int
  /// `[rest, rest]`.
  private let rotation: [Double]

  /// - Precondition: the size is positive.
  package init(size: Int, seed: UInt64) {
    precondition(size > 0)
    var generator = SplitMix64(seed: seed)
    self.size = size
    signs = (0..<size).map { _ in generator.next() >> 63 == 0 ? 1 : -1 }
    power = size & -size
    rotation = OrthogonalMatrix.rotation(size / power, &generator)
  }

  /// Rows of random numbers, made orthogonal one after the other (twice, so that they are so to the last bits).
  private static func rotation(_ n: Int, _ generator: inout SplitMix64) -> [Double] {
    var rows: [[Double]] = []
    while rows.count < n {
      var row = (0..<n).map { _ in 2 * generator.nextUnit() - 1 }
      for _ in 0..<2 {
        for other in rows {
          let product = zip(row, other).reduce(0) { $0 + $1.0 * $1.1 }
          for index in row.indices { row[index] -= product * other[index] }
        }
      }
      let norm = row.reduce(0) { $0 + $1 * $1 }.squareRoot()
      // Almost a combination of the others: another is drawn.
      guard norm > 1e-3 else { continue }
      rows.append(row.map { $0 / norm })
    }
    return rows.flatMap { $0 }
  }

  /// x·R, in place.
  ///
  /// - Precondition: x has `size` elements.
  package func apply(_ x: inout [Double]) {
    precondition(x.count == size)
    for index in x.indices { x[index] *= signs[index] }
    let rest = size / power
    if rest > 1 {
      var product = [Double](repeating: 0, count: rest)
      for start in stride(from: 0, to: size, by: rest) {
        for column in 0..<rest { product[column] = 0 }
        for row in 0..<rest {
          for column in 0..<rest { product[column] += x[start + row] * rotation[row * rest + column] }
        }
        for column in 0..<rest { x[start + column] = product[column] }
      }
    }
    var width = 1
    while width < power {
      for start in stride(from: 0, to: power, by: 2 * width) {
        for index in start * rest..<(start + width) * rest {
          let (a, b) = (x[index], x[index + width * rest])
          (x[index], x[index + width * rest]) = (a + b, a - b)
        }
      }
      width *= 2
    }
    let factor = 1 / Double(power).squareRoot()
    for index in x.indices { x[index] *= factor }
  }
}
