import COTKernels

// What the machine can do at most, for benchmarks to compare with.
extension Kernels {
  /// Runs a loop of this set's instructions for products of codes, on registers only.
  ///
  /// - Returns: The operations done, a multiply and an add being two; 0 when the
  ///   set has no such instructions.
  package func runPeakLoop(stepCount: Int) -> Int {
    ot_peak_codes(instructionSet.rawValue, stepCount) * stepCount
  }

  /// Runs a loop of float32 multiply-adds, on registers only.
  ///
  /// - Returns: The operations done; 0 when this processor's are not known.
  package static func runFloat32PeakLoop(stepCount: Int) -> Int {
    ot_peak_float32(stepCount) * stepCount
  }

  /// Reads memory once, in order.
  ///
  /// - Precondition: The number of bytes is a multiple of 256.
  /// - Returns: A value that depends on every byte.
  package static func read(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    precondition(bytes.count % 256 == 0)
    return bytes.baseAddress.map { ot_read($0, bytes.count) } ?? 0
  }
}
