import Foundation
import OTGraph

// Operations that work on each element alone, in float32.

extension Matrix {
  /// The function `kind` of each element.
  func activated(_ kind: ActivationKind, threadCount: Int) throws -> Matrix {
    switch kind {
    case .relu:
      return try mapped(threadCount: threadCount) { max($0, 0) }
    case .gelu:
      return try mapped(threadCount: threadCount) {
        0.5 * $0 * (1 + erff($0 * Float(0.5).squareRoot()))
      }
    case .geluTanh:
      return try mapped(threadCount: threadCount) { x in
        0.5 * x * (1 + tanhf(0.797_884_56 * (x + 0.044_715 * x * x * x)))
      }
    case .silu:
      // Far below 0 the divisor overflows to infinity, and the quotient is 0 as it should be.
      return try mapped(threadCount: threadCount) { $0 / (1 + expf(-$0)) }
    case .tanh:
      return try mapped(threadCount: threadCount) { tanhf($0) }
    }
  }

  /// The sum of two matrices of one size.
  func adding(_ other: Matrix, threadCount: Int) throws -> Matrix {
    try combined(with: other, threadCount: threadCount) { $0 + $1 }
  }

  /// The element-wise product of two matrices of one size.
  func multiplied(by other: Matrix, threadCount: Int) throws -> Matrix {
    try combined(with: other, threadCount: threadCount) { $0 * $1 }
  }

  /// `(x − shift) ⊘ scale`, channel by channel; absent vectors change nothing.
  func transformed(by transform: ChannelTransform, threadCount: Int) throws -> Matrix {
    let shift = transform.shift ?? [Float](repeating: 0, count: channelCount)
    let scale = transform.scale ?? [Float](repeating: 1, count: channelCount)
    return try .filled(rowCount: rowCount, channelCount: channelCount, threadCount: threadCount) {
      rows, target in
      for row in rows {
        let from = row * channelCount
        let to = (row - rows.lowerBound) * channelCount
        for channel in 0..<channelCount {
          target[to + channel] = (values[from + channel] - shift[channel]) / scale[channel]
        }
      }
    }
  }

  /// One part of a fused, head-interleaved projection.
  func sliced(_ slice: HeadSlice, threadCount: Int) throws -> Matrix {
    let width = channelCount / slice.partCount
    return try .filled(rowCount: rowCount, channelCount: width, threadCount: threadCount) {
      rows, target in
      for row in rows {
        let to = (row - rows.lowerBound) * width
        for channel in 0..<width {
          target[to + channel] = values[row * channelCount + slice.inputChannel(of: channel)]
        }
      }
    }
  }

  private func mapped(
    threadCount: Int, _ function: @Sendable (Float) -> Float
  ) throws -> Matrix {
    try .filled(rowCount: rowCount, channelCount: channelCount, threadCount: threadCount) {
      rows, target in
      let start = rows.lowerBound * channelCount
      for index in target.indices { target[index] = function(values[start + index]) }
    }
  }

  private func combined(
    with other: Matrix, threadCount: Int, _ function: @Sendable (Float, Float) -> Float
  ) throws -> Matrix {
    precondition(rowCount == other.rowCount && channelCount == other.channelCount)
    return try .filled(
      rowCount: rowCount, channelCount: channelCount, threadCount: threadCount
    ) { rows, target in
      let start = rows.lowerBound * channelCount
      for index in target.indices {
        target[index] = function(values[start + index], other.values[start + index])
      }
    }
  }
}
