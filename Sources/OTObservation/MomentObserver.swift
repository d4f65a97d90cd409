import OTFoundation
import OTGraph
import OTRuntime

/// Sums of a site's channels and of their products, over the rows of all samples: in float32 over
/// 512 rows, in float64 over what they give. It is what rounding that compensates errors and choices of scales go by.
package struct SecondMoments: Sendable, Equatable {
  /// Channels of the site.
  package var channelCount: Int { sums.count }
  /// Rows that the sums are over.
  package let rowCount: Int
  /// Σ x of each channel.
  package let sums: [Double]
  /// Σ x xᵀ, `[channelCount, channelCount]`, symmetric.
  package let products: [Double]

  /// Moments as measured.
  ///
  /// - Precondition: there is a product for each two channels.
  package init(rowCount: Int, sums: [Double], products: [Double]) {
    precondition(products.count == sums.count * sums.count)
    self.rowCount = rowCount
    self.sums = sums
    self.products = products
  }

  /// The mean of each channel.
  package var mean: [Double] { sums.map { $0 / Double(max(rowCount, 1)) } }

  /// The products, not copied where nobody else has them.
  package consuming func takenProducts() -> [Double] { products }

  /// The moments of both together.
  ///
  /// - Precondition: they have the same number of channels.
  package func merged(with other: SecondMoments) -> SecondMoments {
    precondition(channelCount == other.channelCount, "not the same site")
    return SecondMoments(
      rowCount: rowCount + other.rowCount, sums: zip(sums, other.sums).map { $0 + $1 },
      products: zip(products, other.products).map { $0 + $1 })
  }

  /// The moments of the values that `transform` makes, (x − z) ⊘ s.
  ///
  /// - Precondition: its vectors have an entry for each channel.
  package func transformed(by transform: ChannelTransform) -> SecondMoments {
    guard !transform.isIdentity else { return self }
    let shift = transform.shift?.map { Double($0) } ?? [Double](repeating: 0, count: channelCount)
    let scale = transform.scale?.map { Double($0) } ?? [Double](repeating: 1, count: channelCount)
    precondition(shift.count == channelCount && scale.count == channelCount)
    let count = Double(rowCount)
    var result = products
    for i in 0..<channelCount {
      for j in 0..<channelCount {
        // Σ (x − z)ᵢ(x − z)ⱼ = Σ xᵢxⱼ − zᵢ Σ xⱼ − (Σ xᵢ − n zᵢ) zⱼ.
        let shifted = products[i * channelCount + j] - shift[i] * sums[j] - (sums[i] - count * shift[i]) * shift[j]
        result[i * channelCount + j] = shifted / (scale[i] * scale[j])
      }
    }
    return SecondMoments(
      rowCount: rowCount, sums: sums.indices.map { (sums[$0] - count * shift[$0]) / scale[$0] }, products: result)
  }
}

/// Gathers the second moments of a site's channels.
package final class MomentObserver: SiteObserver {
  /// Rows that are multiplied at a time. The BLAS's sums depend on their number, so that
  /// blocks begin anew with each sample.
  static let blockRowCount = 512
  /// Channels of a tile of products; tiles are divided between threads.
  static let tileSize = 256

  private let channelCount, threadCount: Int
  private var rowCount = 0
  private var sums: [Double]
  /// Tiles on and below the diagonal; the others are filled in at the end.
  private var products: [Double]
  private let tiles: [(rows: Range<Int>, columns: Range<Int>)]

  /// Memory in bytes that an observer takes.
  static func byteCount(channelCount: Int) -> Int? {
    channelCount.multipliedChecked(by: channelCount)?.multipliedChecked(by: 8)
  }

  /// An observer that has seen nothing.
  package init(channelCount: Int, threadCount: Int) {
    self.channelCount = channelCount
    self.threadCount = threadCount
    sums = [Double](repeating: 0, count: channelCount)
    products = [Double](repeating: 0, count: channelCount * channelCount)
    let ranges = stride(from: 0, to: channelCount, by: MomentObserver.tileSize).map {
      $0..<min($0 + MomentObserver.tileSize, channelCount)
    }
    tiles = ranges.indices.flatMap { row in ranges[...row].map { (ranges[row], $0) } }
  }

  /// Adds the rows of a sample.
  package func add(_ values: UnsafeBufferPointer<Float>, sample: Int) throws {
    let blockSize = MomentObserver.blockRowCount * channelCount
    for start in stride(from: 0, to: values.count, by: blockSize) {
      try addBlock(UnsafeBufferPointer(rebasing: values[start..<min(start + blockSize, values.count)]))
    }
  }

  /// Adds some rows.
  private func addBlock(_ block: UnsafeBufferPointer<Float>) throws {
    let (channelCount, tiles) = (channelCount, tiles)
    rowCount += block.count / channelCount
    sums.withUnsafeMutableBufferPointer { sums in
      for start in stride(from: 0, to: block.count, by: channelCount) {
        for channel in 0..<channelCount { sums[channel] += Double(block[start + channel]) }
      }
    }
    try products.withUnsafeMutableBufferPointer { products in
      guard let x = block.baseAddress, let target = products.baseAddress else { return }
      // Tiles do not overlap.
      nonisolated(unsafe) let (values, sums) = (x, target)
      let rowCount = block.count / channelCount
      _ = try mapBlocks(tiles.count, threadCount: threadCount) { index in
        let (rows, columns) = tiles[index]
        withUnsafeTemporaryAllocation(of: Float.self, capacity: rows.count * columns.count) { tile in
          guard let part = tile.baseAddress else { return }
          BLAS.products(
            m: rows.count, n: columns.count, k: rowCount, values + rows.lowerBound, values + columns.lowerBound,
            stride: channelCount, into: part)
          for row in 0..<rows.count {
            let target = sums + (rows.lowerBound + row) * channelCount + columns.lowerBound
            for column in 0..<columns.count { target[column] += Double(part[row * columns.count + column]) }
          }
        }
      }
    }
  }

  /// Stores the moments.
  package func store(in site: inout SiteObservations) {
    for row in 0..<channelCount {
      for column in 0..<row { products[column * channelCount + row] = products[row * channelCount + column] }
    }
    site.moments = SecondMoments(rowCount: rowCount, sums: sums, products: products)
  }
}
