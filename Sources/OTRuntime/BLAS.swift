import COpenBLAS

/// The only place that calls the BLAS.
///
/// The BLAS runs on the calling thread: callers divide the work themselves, in
/// blocks that do not depend on the number of threads, and so get the same
/// result for every number of threads.
package enum BLAS {
  private static let singleThreaded: Void = openblas_set_num_threads(1)

  /// A matrix, row-major; `stride` elements from one row to the next.
  struct Operand {
    let base: UnsafePointer<Float>?
    let stride: Int
  }

  /// Rows that are multiplied one by one: for more, the BLAS puts all of `b` in another order first.
  static let fewRowCount = 4

  /// `c = a·bᵀ`, or `c + a·bᵀ`, with `a` `[m, k]`, `b` `[n, k]` and `c`
  /// `[m, n]`. Sums are in float32, in the BLAS's order, which depends on `m`.
  /// `c` is not read unless it is added to.
  ///
  /// - Precondition: the sizes fit in 32 bits.
  static func multiplyTransposed(
    m: Int, n: Int, k: Int, _ a: Operand, _ b: Operand, adds: Bool, into c: UnsafeMutablePointer<Float>, stride: Int
  ) {
    _ = singleThreaded
    guard m <= fewRowCount, let x = a.base else {
      return cblas_sgemm(
        CblasRowMajor, CblasNoTrans, CblasTrans, blasint(m), blasint(n), blasint(k), 1,
        a.base, blasint(a.stride), b.base, blasint(b.stride), adds ? 1 : 0, c, blasint(stride))
    }
    for row in 0..<m {
      let y = c + row * stride
      // Not left to a factor of 0: NaN times 0 is NaN.
      if !adds { y.update(repeating: 0, count: n) }
      cblas_sgemv(
        CblasRowMajor, CblasNoTrans, blasint(n), blasint(k), 1, b.base, blasint(b.stride),
        x + row * a.stride, 1, 1, y, 1)
    }
  }

  /// `c = c + aᵀ·b` in float64, with `a` `[k, m]` and `b` `[k, n]` row-major, and `stride` elements from
  /// one row to the next in all three.
  ///
  /// - Precondition: the sizes fit in 32 bits.
  package static func addProducts(
    m: Int, n: Int, k: Int, _ a: UnsafePointer<Double>, _ b: UnsafePointer<Double>, stride: Int,
    to c: UnsafeMutablePointer<Double>
  ) {
    _ = singleThreaded
    cblas_dgemm(
      CblasRowMajor, CblasTrans, CblasNoTrans, blasint(m), blasint(n), blasint(k), 1,
      a, blasint(stride), b, blasint(stride), 1, c, blasint(stride))
  }
}
