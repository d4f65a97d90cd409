/// Counts of values, in bins of equal width around 0.
///
/// The bins span ±`halfRange`, a power of two that doubles, pairs of bins
/// merging, whenever a value does not fit: the result depends on the values
/// alone, not on their order.
package struct ValueHistogram: Sendable, Hashable {
  /// Bins, half of them below 0.
  package static let binCount = 256

  /// Values counted, from −`halfRange` (included) to `halfRange` (excluded).
  package private(set) var counts = [Int](repeating: 0, count: binCount)
  /// A power of two.
  package private(set) var halfRange: Float = 0x1p-20
  /// Values that are not finite, which no bin holds.
  package private(set) var nonFiniteCount = 0

  /// Nothing counted yet.
  package init() {}

  /// Counts `values`.
  ///
  /// - Complexity: O(values).
  package mutating func add(_ values: UnsafeBufferPointer<Float>) {
    var largest: Float = 0
    for value in values where value.isFinite { largest = max(largest, abs(value)) }
    while largest >= halfRange, halfRange < 0x1p126 { double() }
    let half = ValueHistogram.binCount / 2
    // Both are powers of two: the product is exact.
    let factor = Float(half) / halfRange
    for value in values {
      guard value.isFinite else {
        nonFiniteCount += 1
        continue
      }
      let bin = Int((value * factor).rounded(.down)) + half
      counts[min(max(bin, 0), ValueHistogram.binCount - 1)] += 1
    }
  }

  private mutating func double() {
    let half = ValueHistogram.binCount / 2
    var merged = [Int](repeating: 0, count: ValueHistogram.binCount)
    for bin in counts.indices {
      // Bins −2k and −2k + 1 become −k: division rounds down on both sides of 0.
      let doubled = (bin - half) >> 1 + half
      merged[doubled] += counts[bin]
    }
    counts = merged
    halfRange *= 2
  }

  /// All values counted.
  package var total: Int { counts.reduce(0, +) + nonFiniteCount }
}
