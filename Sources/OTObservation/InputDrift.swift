import OTFoundation
import OTRuntime

/// Gathers Σ (x − x̂) x̂ᵀ of a site, x in the float network and x̂ in the quantized one: in float32 over 512 rows, in
/// float64 over what they give.
package struct InputDrift: Sendable {
  private let channelCount, threadCount: Int
  /// `[channel of x − x̂, channel of x̂]`.
  package private(set) var products: [Double]

  /// Nothing yet.
  package init(channelCount: Int, threadCount: Int) {
    (self.channelCount, self.threadCount) = (channelCount, threadCount)
    products = [Double](repeating: 0, count: channelCount * channelCount)
  }

  /// Adds the rows of a sample, `[rows, channels]` both.
  ///
  /// - Precondition: they have as many rows, of the site's channels.
  package mutating func add(float: Matrix, quantized: Matrix) throws {
    precondition(float.values.count == quantized.values.count && float.channelCount == channelCount)
    let size = MomentObserver.blockRowCount * channelCount
    try float.values.withUnsafeBufferPointer { float in
      try quantized.values.withUnsafeBufferPointer { quantized in
        for start in stride(from: 0, to: quantized.count, by: size) {
          let range = start..<min(start + size, quantized.count)
          let differences = range.map { float[$0] - quantized[$0] }
          try differences.withUnsafeBufferPointer {
            try add($0, UnsafeBufferPointer(rebasing: quantized[range]))
          }
        }
      }
    }
  }

  private mutating func add(_ differences: UnsafeBufferPointer<Float>, _ values: UnsafeBufferPointer<Float>) throws {
    let (n, size, threadCount) = (channelCount, MomentObserver.tileSize, threadCount)
    let ranges = stride(from: 0, to: n, by: size).map { $0..<min($0 + size, n) }
    try products.withUnsafeMutableBufferPointer { products in
      guard let target = products.baseAddress, let left = differences.baseAddress, let right = values.baseAddress
      else { return }
      // Rows of products do not overlap.
      let rowCount = values.count / n
      nonisolated(unsafe) let (differences, values, sums) = (left, right, target)
      _ = try mapBlocks(ranges.count, threadCount: threadCount) { index in
        let rows = ranges[index]
        withUnsafeTemporaryAllocation(of: Float.self, capacity: rows.count * n) { tile in
          guard let part = tile.baseAddress else { return }
          BLAS.products(
            m: rows.count, n: n, k: rowCount, differences + rows.lowerBound, values, stride: n, into: part)
          let target = sums + rows.lowerBound * n
          for element in 0..<rows.count * n { target[element] += Double(part[element]) }
        }
      }
    }
  }
}
