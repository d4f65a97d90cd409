import OTFoundation

/// The dimensions of a tensor, outermost first; an empty list is a scalar.
///
/// Every value is one whose element count fits in an Int and whose dimensions
/// multiply without overflow even beside a zero.
package struct Shape: Sendable, Hashable {
  /// Dimensions, outermost first.
  package let dimensions: [Int]
  /// Their product; 1 for a scalar.
  package let elementCount: Int

  /// The most dimensions that this package accepts.
  package static let maximumRank = 8

  /// Nil for a negative dimension, a rank above `maximumRank` or an overflow.
  package init?(_ dimensions: [Int]) {
    guard dimensions.count <= Shape.maximumRank else { return nil }
    // Overflow is judged with zeros left out, so that [2^62, 2^62, 0] is refused.
    var product = 1
    var hasZero = false
    for dimension in dimensions {
      guard dimension >= 0 else { return nil }
      if dimension == 0 { hasZero = true; continue }
      guard let next = product.multipliedChecked(by: dimension) else { return nil }
      product = next
    }
    self.dimensions = dimensions
    self.elementCount = hasZero ? 0 : product
  }

  /// Number of dimensions.
  package var rank: Int { dimensions.count }

  /// The first dimension; 1 for a scalar.
  package var rowCount: Int { dimensions.first ?? 1 }

  /// Elements in one index of the first dimension; 0 where there are no rows
  /// to tell it from.
  package var rowElementCount: Int { rowCount == 0 ? 0 : elementCount / rowCount }

  /// The same elements as a matrix, whose rows are those along the last dimension; nil for fewer than two dimensions.
  package var joiningRows: Shape? {
    guard rank >= 2, let columnCount = dimensions.last else { return nil }
    return Shape([dimensions.dropLast().reduce(1, &*), columnCount])
  }

  /// Element strides of the row-major layout.
  package var rowMajorStrides: [Int] {
    var strides = [Int](repeating: 1, count: rank)
    for axis in stride(from: rank - 2, through: 0, by: -1) {
      strides[axis] = strides[axis + 1] &* max(dimensions[axis + 1], 1)
    }
    return strides
  }
}

extension Shape: CustomStringConvertible {
  /// `[out, in]`.
  package var description: String { "[" + dimensions.map(String.init).joined(separator: ", ") + "]" }
}
