import COpenBLAS

/// The only place that calls the BLAS.
///
/// The BLAS runs on the calling thread: callers divide the work themselves, in
/// blocks that do not depend on the number of threads, and so get the same
/// result for every number of threads.
enum BLAS {
  private static let singleThreaded: Void = openblas_set_num_threads(1)

  /// One operand: rows of `[rowCount, columnCount]`, `stride` elements apart.
  struct Operand {
    let base: UnsafePointer<Float>?
    let stride: Int
  }

  /// `c = a·bᵀ + addend·c`, with `a` `[m, k]`, `b` `[n, k]` and `c`
  /// `[m, n]`. Sums are in float32, in the BLAS's order. `c` is not read where
  /// `addend` is 0.
  ///
  /// - Precondition: the sizes fit in 32 bits.
  static func multiplyTransposed(
    m: Int, n: Int, k: Int, _ a: Operand, _ b: Operand, addend: Float = 0,
    into c: UnsafeMutablePointer<Float>?, stride: Int
  ) {
    _ = singleThreaded
    cblas_sgemm(
      CblasRowMajor, CblasNoTrans, CblasTrans, blasint(m), blasint(n), blasint(k), 1,
      a.base, blasint(a.stride), b.base, blasint(b.stride), addend, c, blasint(stride))
  }
}
