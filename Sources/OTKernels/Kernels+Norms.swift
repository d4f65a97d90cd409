import COTKernels

// Norms of one row. Mean and mean square are taken in float64 over 16 lanes; all
// else is float32. The result may be written over the row.
extension Kernels {
  /// y = (x − mean) / √(variance + ε) ⊙ γ + β, with the variance of the whole
  /// row (divisor n). Nil stands for ones and zeros.
  package func layerNormalize(
    _ row: UnsafeBufferPointer<Float>, epsilon: Float, gamma: UnsafeBufferPointer<Float>?,
    beta: UnsafeBufferPointer<Float>?, into target: UnsafeMutableBufferPointer<Float>
  ) {
    Kernels.checkNorm(row, gamma, beta, target)
    guard let x = row.baseAddress, let y = target.baseAddress, !row.isEmpty else { return }
    table.pointee.layer_norm(x, row.count, epsilon, gamma?.baseAddress, beta?.baseAddress, y)
  }

  /// y = x / √(mean of squares + ε) ⊙ γ + β. Nil stands for ones and zeros.
  package func rmsNormalize(
    _ row: UnsafeBufferPointer<Float>, epsilon: Float, gamma: UnsafeBufferPointer<Float>?,
    beta: UnsafeBufferPointer<Float>?, into target: UnsafeMutableBufferPointer<Float>
  ) {
    Kernels.checkNorm(row, gamma, beta, target)
    guard let x = row.baseAddress, let y = target.baseAddress, !row.isEmpty else { return }
    table.pointee.rms_norm(x, row.count, epsilon, gamma?.baseAddress, beta?.baseAddress, y)
  }

  private static func checkNorm(
    _ row: UnsafeBufferPointer<Float>, _ gamma: UnsafeBufferPointer<Float>?,
    _ beta: UnsafeBufferPointer<Float>?, _ target: UnsafeMutableBufferPointer<Float>
  ) {
    precondition(row.count == target.count, "counts differ")
    precondition((gamma?.count ?? row.count) == row.count, "counts differ")
    precondition((beta?.count ?? row.count) == row.count, "counts differ")
  }
}
