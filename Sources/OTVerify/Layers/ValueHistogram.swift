import OTJSON

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

  /// Counts what another has counted: as if all had been counted by one.
  mutating func add(_ other: ValueHistogram) {
    var other = other
    while halfRange < other.halfRange { double() }
    while other.halfRange < halfRange { other.double() }
    for bin in counts.indices { counts[bin] += other.counts[bin] }
    nonFiniteCount += other.nonFiniteCount
  }

  // MARK: In the file of a part

  var json: JSONValue {
    .object([
      "counts": .array(counts.map { .integer($0) }), "halfRange": .bits(of: [halfRange]),
      "nonFinite": .integer(nonFiniteCount),
    ])
  }

  /// Nil where it is damaged.
  init?(_ json: JSONValue) {
    guard let counts = json["counts"]?.list(\.count), counts.count == ValueHistogram.binCount,
      let halfRange = json["halfRange"]?.bits(as: Float.self)?.first, halfRange.significand == 1,
      (0x1p-20...0x1p126).contains(halfRange), let nonFiniteCount = json["nonFinite"]?.count
    else { return nil }
    (self.counts, self.halfRange, self.nonFiniteCount) = (counts, halfRange, nonFiniteCount)
  }

  /// All values counted.
  package var total: Int { counts.reduce(0, +) + nonFiniteCount }
}
