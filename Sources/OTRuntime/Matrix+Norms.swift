// Norms. Sums are taken in float64 over 8 interleaved lanes, added up in the
// order of the lanes; all else is float32.

extension Matrix {
  /// `(x − mean) / √(variance + ε) ⊙ γ + β` of each row; the variance is that
  /// of the whole row (divisor n). Absent vectors stand for ones and zeros.
  func layerNormalized(
    epsilon: Float, gamma: [Float]?, beta: [Float]?, threadCount: Int
  ) throws -> Matrix {
    try normalized(gamma: gamma, beta: beta, threadCount: threadCount) { row in
      let count = Double(row.count)
      let mean = laneSum(row) { $0 } / count
      let variance = laneSum(row) { ($0 - mean) * ($0 - mean) } / count
      return (Float(mean), Float(1 / (variance + Double(epsilon)).squareRoot()))
    }
  }

  /// `x / √(mean of squares + ε) ⊙ γ + β` of each row.
  func rmsNormalized(
    epsilon: Float, gamma: [Float]?, beta: [Float]?, threadCount: Int
  ) throws -> Matrix {
    try normalized(gamma: gamma, beta: beta, threadCount: threadCount) { row in
      let meanSquare = laneSum(row) { $0 * $0 } / Double(row.count)
      return (0, Float(1 / (meanSquare + Double(epsilon)).squareRoot()))
    }
  }

  private func normalized(
    gamma: [Float]?, beta: [Float]?, threadCount: Int,
    statistics: @Sendable (UnsafeBufferPointer<Float>) -> (center: Float, factor: Float)
  ) throws -> Matrix {
    let gamma = gamma ?? [Float](repeating: 1, count: channelCount)
    let beta = beta ?? [Float](repeating: 0, count: channelCount)
    return try .filled(rowCount: rowCount, channelCount: channelCount, threadCount: threadCount) {
      rows, target in
      values.withUnsafeBufferPointer { source in
        for row in rows {
          let from = row * channelCount
          let to = (row - rows.lowerBound) * channelCount
          let (center, factor) = statistics(
            UnsafeBufferPointer(rebasing: source[from..<from + channelCount]))
          for channel in 0..<channelCount {
            target[to + channel] =
              (source[from + channel] - center) * factor * gamma[channel] + beta[channel]
          }
        }
      }
    }
  }
}

private func laneSum(
  _ row: UnsafeBufferPointer<Float>, _ term: (SIMD8<Double>) -> SIMD8<Double>
) -> Double {
  var sums = SIMD8<Double>.zero
  var index = 0
  while index + 8 <= row.count {
    var part = SIMD8<Double>.zero
    for lane in 0..<8 { part[lane] = Double(row[index + lane]) }
    sums += term(part)
    index += 8
  }
  var total = 0.0
  for lane in 0..<8 { total += sums[lane] }
  while index < row.count {
    total += term(SIMD8(repeating: Double(row[index])))[0]
    index += 1
  }
  return total
}
