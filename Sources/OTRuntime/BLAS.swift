import COpenBLAS
import OTFoundation
import OTPlatform

/// The only place that calls the BLAS.
///
/// The BLAS runs on the calling thread: callers divide the work themselves, in
/// blocks that do not depend on the number of threads, and so get the same
/// result for every number of threads.
package enum BLAS {
  /// The library, loaded when it is first needed.
  private static let loaded: Result<ot_blas_library, Refusal> = {
    var library = ot_blas_library()
    if let fault = ot_blas_load(&library) {
      let reason = String(cString: fault)
      // As glibc says that it is there, but finds no room.
      let hasNoRoom = reason.contains("failed to map segment") || reason.contains("cannot allocate memory")
      return .failure(
        Refusal(
          hasNoRoom ? "blas-memory" : "blas-missing",
          "OpenBLAS, which multiplies floats, cannot be loaded: \(reason)",
          remedy: hasNoRoom ? "raise the limit of address space (ulimit -v)" : "install it (Debian: libopenblas0)"))
    }
    library.set_thread_count?(1)
    return .success(library)
  }()

  /// Address space that the library takes for each thread that multiplies.
  private static let bufferByteCount = 1 << 27

  /// Loads the library, for those who can say that it is not there, or has no room.
  ///
  /// - Parameter threadCount: threads that will multiply at a time.
  /// - Throws: `Refusal` with rule `blas-missing` or `blas-memory`.
  package static func load(threadCount: Int) throws {
    _ = try loaded.get()
    // Where its buffers find no room, the library would try again for ever.
    let byteCount = (threadCount + 1) * bufferByteCount
    let space = mmap(nil, byteCount, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    guard let space, space != MAP_FAILED else {
      throw Refusal(
        "blas-memory",
        "multiplying floats takes \(byteCount >> 20) MiB of address space, more than the process may still have",
        remedy: "raise the limit (ulimit -v), or use fewer --threads")
    }
    munmap(space, byteCount)
  }

  private static var library: ot_blas_library {
    guard case .success(let library) = loaded else { preconditionFailure("an executor loads the BLAS first") }
    return library
  }

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
    let library = library
    let (order, asItIs, transposed) = (Int32(OT_BLAS_ROW_MAJOR), Int32(OT_BLAS_AS_IT_IS), Int32(OT_BLAS_TRANSPOSED))
    guard m <= fewRowCount, let x = a.base else {
      library.sgemm?(
        order, asItIs, transposed, Int32(m), Int32(n), Int32(k), 1, a.base, Int32(a.stride), b.base,
        Int32(b.stride), adds ? 1 : 0, c, Int32(stride))
      return
    }
    for row in 0..<m {
      let y = c + row * stride
      // Not left to a factor of 0: NaN times 0 is NaN.
      if !adds { y.update(repeating: 0, count: n) }
      library.sgemv?(order, asItIs, Int32(n), Int32(k), 1, b.base, Int32(b.stride), x + row * a.stride, 1, 1, y, 1)
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
    library.sgemm?(
      Int32(OT_BLAS_ROW_MAJOR), Int32(OT_BLAS_TRANSPOSED), Int32(OT_BLAS_AS_IT_IS), Int32(m), Int32(n), Int32(k), 1,
      a, Int32(stride), b, Int32(stride), 0, c, Int32(n))
  }

  /// The upper factor R of A = RᵀR, in place: of `matrix`, `[n, n]` and symmetric, only the half that
  /// holds A_ij, i ≤ j, at `j·n + i` is read; there R_ij is put.
  ///
  /// - Returns: false where A is not positive definite; `matrix` is then spoilt.
  /// - Precondition: `n` fits in 32 bits.
  package static func factorize(_ matrix: inout [Double], n: Int) -> Bool {
    precondition(matrix.count == n * n)
    guard n > 0 else { return true }
    var (size, info) = (Int32(n), Int32(0))
    let library = library
    matrix.withUnsafeMutableBufferPointer { library.dpotrf?("U", &size, $0.baseAddress, &size, &info) }
    return info == 0
  }

  /// x becomes x A⁻¹ for each of `count` rows, `[count, n]`; `factor` is what `factorize` made of A.
  ///
  /// - Precondition: `n` and `count` fit in 32 bits.
  package static func solve(_ factor: [Double], n: Int, rows: UnsafeMutablePointer<Double>, count: Int) {
    precondition(factor.count == n * n)
    guard n > 0, count > 0 else { return }
    // Rows here are columns there, and A is symmetric.
    var (size, width, info) = (Int32(n), Int32(count), Int32(0))
    let library = library
    factor.withUnsafeBufferPointer { library.dpotrs?("U", &size, &width, $0.baseAddress, &size, rows, &size, &info) }
  }
}
