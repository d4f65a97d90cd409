import COpenBLAS

/// The only place that calls the BLAS.
///
/// The BLAS runs on the calling thread: callers divide the work themselves, in
/// blocks that do not depend on the number of threads, and so get the same
/// result for every number of threads.
package enum BLAS {
  private static let singleThreaded: Void = openblas_set_num_threads(1)

  /// A matrix, row-major; `stride` elements from one row to the next.
  package struct Operand {
    let base: UnsafePointer<Float>?
    let stride: Int

    /// A matrix that begins at `base`.
    package init(base: UnsafePointer<Float>?, stride: Int) { (self.base, self.stride) = (base, stride) }
  }

  /// Rows that are multiplied one by one: for more, the BLAS puts all of `b` in another order first.
  static let fewRowCount = 4

  /// `c = a·bᵀ`, or `c + a·bᵀ`, with `a` `[m, k]`, `b` `[n, k]` and `c`
  /// `[m, n]`. Sums are in float32, in the BLAS's order, which depends on `m`.
  /// `c` is not read unless it is added to.
  ///
  /// - Precondition: the sizes fit in 32 bits.
  package static func multiplyTransposed(
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

  /// `c = aᵀ·b`, with `a` `[k, m]` and `b` `[k, n]` row-major, `stride` elements from one row to the
  /// next, and `c` `[m, n]`. Sums are in float32, in the BLAS's order, which depends on `k`.
  ///
  /// - Precondition: the sizes fit in 32 bits.
  package static func products(
    m: Int, n: Int, k: Int, _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, stride: Int,
    into c: UnsafeMutablePointer<Float>
  ) {
    _ = singleThreaded
    cblas_sgemm(
      CblasRowMajor, CblasTrans, CblasNoTrans, blasint(m), blasint(n), blasint(k), 1,
      a, blasint(stride), b, blasint(stride), 0, c, blasint(n))
  }

  /// The upper factor R of A = RᵀR, in place: of `matrix`, `[n, n]` and symmetric, only the half that
  /// holds A_ij, i ≤ j, at `j·n + i` is read; there R_ij is put.
  ///
  /// - Returns: false where A is not positive definite; `matrix` is then spoilt.
  /// - Precondition: `n` fits in 32 bits.
  package static func factorize(_ matrix: inout [Double], n: Int) -> Bool {
    precondition(matrix.count == n * n)
    _ = singleThreaded
    guard n > 0 else { return true }
    var (size, info) = (blasint(n), blasint(0))
    matrix.withUnsafeMutableBufferPointer { dpotrf_("U", &size, $0.baseAddress, &size, &info) }
    return info == 0
  }
}
