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
    for start in stride(from: 0, to: quantized.values.count, by: size) {
      let range = start..<min(start + size, quantized.values.count)
      let differences = zip(float.values[range], quantized.values[range]).map { $0 - $1 }
      try add(differences, Array(quantized.values[range]))
    }
  }

  private mutating func add(_ differences: [Float], _ values: [Float]) throws {
    let (n, size) = (channelCount, MomentObserver.tileSize)
    let ranges = stride(from: 0, to: n, by: size).map { $0..<min($0 + size, n) }
    let threadCount = threadCount
    try products.withUnsafeMutableBufferPointer { products in
      guard let target = products.baseAddress else { return }
      // Rows of products do not overlap.
      nonisolated(unsafe) let sums = target
      _ = try mapBlocks(ranges.count, threadCount: threadCount) { index in
        let rows = ranges[index]
        withUnsafeTemporaryAllocation(of: Float.self, capacity: rows.count * n) { tile in
          differences.withUnsafeBufferPointer { differences in
            values.withUnsafeBufferPointer { values in
              guard let part = tile.baseAddress, let left = differences.baseAddress, let right = values.baseAddress
              else { return }
              BLAS.products(
                m: rows.count, n: n, k: values.count / n, left + rows.lowerBound, right, stride: n, into: part)
              let target = sums + rows.lowerBound * n
              for element in 0..<rows.count * n { target[element] += Double(part[element]) }
            }
          }
        }
      }
    }
  }
}
