import COTKernels

extension Kernels {
  /// Each block of `blockSize` values times H/√blockSize, where H[i][j] = (−1)^popcount(i & j);
  /// the result may be written over the source.
  ///
  /// Partners are added from near to far, then all is multiplied by 1/√blockSize once.
  /// - Precondition: `blockSize` is a power of 2 from 16 that divides the count.
  package func hadamard(
    _ x: UnsafeBufferPointer<Float>, blockSize: Int, into y: UnsafeMutableBufferPointer<Float>
  ) {
    precondition(x.count == y.count, "counts differ")
    precondition(blockSize >= 16 && blockSize & (blockSize - 1) == 0 && x.count % blockSize == 0, "no whole blocks")
    guard let from = x.baseAddress, let to = y.baseAddress else { return }
    table.pointee.hadamard(from, x.count, blockSize, to)
  }
}
