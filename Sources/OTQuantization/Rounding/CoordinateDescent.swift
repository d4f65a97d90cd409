import OTRuntime
import OTTensor

/// Makes quantized values better one at a time, while the others stay: see `GPTQ`.
struct CoordinateDescent: Sendable {
  /// The most passes over a row.
  let passCount: Int
  /// H, damped, its rows and columns in the order of rounding; its diagonal is positive.
  let moments: [Float]

  /// Lessens (w − ŵ) H (w − ŵ)ᵀ of each row of a block.
  ///
  /// - Parameters:
  ///   - values: the quantized values of w, to be replaced.
  ///   - order: the columns in the order of rounding.
  ///   - errors: w − ŵ in that order, `[row, t]`, to be replaced.
  func improve(
    _ values: UnsafeMutableBufferPointer<UInt8>, of block: WeightBlock, order: [Int],
    errors: UnsafeMutableBufferPointer<Float>
  ) {
    let (n, rowCount) = (block.columnCount, block.rowCount)
    withUnsafeTemporaryAllocation(of: Float.self, capacity: rowCount * n) { slopes in
      moments.withUnsafeBufferPointer { moments in
        guard let slopeBase = slopes.baseAddress, let errorBase = errors.baseAddress, let base = moments.baseAddress
        else { return }
        // (w − ŵ) H, of which each change below adds its part; H is symmetric.
        BLAS.multiplyTransposed(
          m: rowCount, n: n, k: n, BLAS.Operand(base: errorBase, stride: n), BLAS.Operand(base: base, stride: n),
          adds: false, into: slopeBase, stride: n)
        for row in 0..<rowCount {
          var pass = 0
          while pass < passCount,
            descend(
              values, row, of: block, order: order, errors: errorBase + row * n, slopes: slopeBase + row * n,
              moments: base)
          { pass += 1 }
        }
      }
    }
  }

  /// One pass over a row; true when a value moved.
  private func descend(
    _ values: UnsafeMutableBufferPointer<UInt8>, _ row: Int, of block: WeightBlock, order: [Int],
    errors: UnsafeMutablePointer<Float>, slopes: UnsafeMutablePointer<Float>, moments: UnsafePointer<Float>
  ) -> Bool {
    let n = block.columnCount
    let (least, largest) = (Float(block.scheme.minimumCode), Float(block.scheme.maximumCode))
    var hasMoved = false
    for t in 0..<n {
      let index = row * n + order[t]
      let step = block.step(row: row, column: order[t])
      let old = Float(values[index])
      // Within half a step nothing moves; NaN moves nothing either.
      let wish = slopes[t] / (moments[t * n + t] * step.scale)
      guard abs(wish) > 0.5 else { continue }
      let new = min(max((old + wish).rounded(.toNearestOrEven), least), largest)
      guard new != old else { continue }
      values[index] = UInt8(new)
      hasMoved = true
      let change = step.scale * (old - new)
      errors[t] += change
      let column = moments + t * n
      for u in 0..<n { slopes[u] += change * column[u] }
    }
    return hasMoved
  }
}
