import COTKernels

/// From the integer products of codes to floats, for `rowCount` tokens and
/// `channelCount` output channels.
///
/// For token t and channel n:
/// - e = p[t][n] − zeroPoint[n] · sums[t], in int32; with offsets, e − weightSums[n] · zeros[t], exact. With digits, e0, e1 and e2 so
///   from rows 3t, 3t + 1 and 3t + 2, and e = 65536 e0 + 256 e1 + e2, exact. Of groups, e is
///   the float that their product gave;
/// - v = scale[n] · Float(e); y = v, or y + v to accumulate;
/// - with the last part: y · tokenScale[t], then + bias[n], either left out for nil.
package struct Epilogue {
  /// What integer products gave.
  package enum Sums {
    /// Rows of `products`, one per token or three with digits, the sum of each row of activation codes, and
    /// the zero points of the weights of each output channel.
    case integers(
      products: UnsafeBufferPointer<Int32>, codeSums: UnsafeBufferPointer<Int32>,
      zeroPoints: UnsafeBufferPointer<Int32>)
    /// A row per token of sums over groups.
    case groups(UnsafeBufferPointer<Float>)
  }

  /// What the products gave.
  package var sums: Sums
  /// Elements from row to row of products.
  package var productStride: Int
  /// Scales of the weights of each output channel.
  package var scales: UnsafeBufferPointer<Float>
  /// Scales of the activation codes of each token.
  package var tokenScales: UnsafeBufferPointer<Float>?
  /// For tokens whose code of 0 is not 0: these codes, and the sum of each output channel's codes less its zero
  /// point. Products are integers, without digits.
  package var offsets: (zeros: UnsafeBufferPointer<Int32>, weightSums: UnsafeBufferPointer<Int32>)?
  /// The bias of each output channel.
  package var bias: UnsafeBufferPointer<Float>?
  /// Tokens.
  package var rowCount: Int
  /// True when a token's activations are three digits.
  package var hasDigits = false
  /// True when results are added to what the target holds.
  package var accumulates = false
  /// True when this part of the sum is the last one.
  package var isLast = true
  /// `[rowCount, channelCount]` with `targetStride` from row to row.
  package var target: UnsafeMutableBufferPointer<Float>
  /// Elements from row to row of `target`.
  package var targetStride: Int

  /// One whole product: see the properties for shapes.
  package init(
    _ sums: Sums, productStride: Int, scales: UnsafeBufferPointer<Float>, tokenScales: UnsafeBufferPointer<Float>?,
    bias: UnsafeBufferPointer<Float>?, rowCount: Int,
    target: UnsafeMutableBufferPointer<Float>, targetStride: Int
  ) {
    self.sums = sums
    self.productStride = productStride
    self.scales = scales
    self.tokenScales = tokenScales
    self.bias = bias
    self.rowCount = rowCount
    self.target = target
    self.targetStride = targetStride
  }
}

extension Kernels {
  /// Carries out `epilogue`; its channels are those of `scales`.
  ///
  /// - Precondition: The counts of all buffers fit.
  package func finish(_ epilogue: Epilogue) {
    let channelCount = epilogue.scales.count
    let rowCount = epilogue.rowCount
    guard rowCount > 0, channelCount > 0 else { return }
    precondition((epilogue.bias?.count ?? channelCount) == channelCount, "counts differ")
    precondition((epilogue.tokenScales?.count ?? rowCount) >= rowCount, "too few scales")
    precondition(Kernels.holds(epilogue.target.count, rowCount, channelCount, epilogue.targetStride))
    guard let scale = epilogue.scales.baseAddress, let y = epilogue.target.baseAddress else { return }
    var call = ot_epilogue(
      p: nil, parts: nil, p_stride: epilogue.productStride, sums: nil, scale: scale, zero_point: nil,
      token_scale: epilogue.tokenScales?.baseAddress, token_zero: nil, weight_sum: nil,
      bias: epilogue.bias?.baseAddress,
      row_count: rowCount, count: channelCount, is_split: epilogue.hasDigits ? 1 : 0,
      accumulate: epilogue.accumulates ? 1 : 0, is_last: epilogue.isLast ? 1 : 0, y: y,
      y_stride: epilogue.targetStride)
    switch epilogue.sums {
    case .integers(let products, let codeSums, let zeroPoints):
      let productRowCount = epilogue.hasDigits ? 3 * rowCount : rowCount
      precondition(zeroPoints.count == channelCount, "counts differ")
      precondition(codeSums.count >= productRowCount, "too few sums")
      precondition(Kernels.holds(products.count, productRowCount, channelCount, epilogue.productStride))
      (call.p, call.sums, call.zero_point) = (products.baseAddress, codeSums.baseAddress, zeroPoints.baseAddress)
      if let offsets = epilogue.offsets {
        precondition(!epilogue.hasDigits && offsets.weightSums.count == channelCount, "counts differ")
        precondition(offsets.zeros.count >= rowCount, "too few codes of 0")
        (call.token_zero, call.weight_sum) = (offsets.zeros.baseAddress, offsets.weightSums.baseAddress)
      }
    case .groups(let parts):
      precondition(epilogue.offsets == nil, "groups have no codes of 0")
      precondition(!epilogue.hasDigits && Kernels.holds(parts.count, rowCount, channelCount, epilogue.productStride))
      call.parts = parts.baseAddress
    }
    table.pointee.epilogue(&call)
  }

  /// True when a buffer holds `rowCount` (at least 1) rows of `width` elements.
  static func holds(_ count: Int, _ rowCount: Int, _ width: Int, _ stride: Int) -> Bool {
    stride >= width && count >= (rowCount - 1) * stride + width
  }
}
