import COTKernels

/// The meaning of a row of quantized activations, or of a group of a row: x = scale · q.
package struct CodeRow: Sendable, Hashable {
  /// One step of the codes; NaN where there was NaN or infinity.
  package var scale: Float
  /// Sum of the codes, for the correction by weights' zero points.
  package var sum: Int32
}

/// The meaning of a row of activations whose codes are not symmetric around 0: x = scale · (q − zero).
package struct OffsetCodeRow: Sendable, Hashable {
  /// One step of the codes; NaN where there was NaN or infinity.
  package var scale: Float
  /// Sum of the codes, for the correction by weights' zero points.
  package var sum: Int32
  /// The code of 0.
  package var zero: Int32
}

// From floats to the codes that products take, in one call per row.
extension Kernels {
  /// q[k] = clamp(round(x[k]), −2^(bits−1), 2^(bits−1) − 1), ties to even, with
  /// scale 1: the site's scale is in what made the row. NaN becomes the smallest.
  ///
  /// - Precondition: `bits` is 2 ... 8; `target` has at least as many elements
  ///   as `row`. Those beyond are set to 0.
  package func quantizeStatically(
    _ row: UnsafeBufferPointer<Float>, bits: Int, into target: UnsafeMutableBufferPointer<Int8>
  ) -> CodeRow {
    let high = Int32(Kernels.largestActivationCode(bits: bits))
    precondition(row.count <= target.count, "too few codes")
    guard let q = target.baseAddress else { return CodeRow(scale: 1, sum: 0) }
    (q + row.count).update(repeating: 0, count: target.count - row.count)
    guard let x = row.baseAddress else { return CodeRow(scale: 1, sum: 0) }
    let result = table.pointee.quantize_static(x, row.count, -high - 1, high, q)
    return CodeRow(scale: result.scale, sum: result.sum)
  }

  /// q[k] = clamp(round(x[k] / scale), ±q) with q = 2^(bits−1) − 1 and the
  /// row's own scale = max|x| / q.
  ///
  /// The scale of an all-zero row is 1, and none is below the smallest normal
  /// float. A row with NaN or infinity gets codes 0 and scale NaN, so that what
  /// is computed from it is NaN as in float arithmetic.
  ///
  /// - Precondition: as for `quantizeStatically`.
  package func quantizeDynamically(
    _ row: UnsafeBufferPointer<Float>, bits: Int, into target: UnsafeMutableBufferPointer<Int8>
  ) -> CodeRow {
    let high = Int32(Kernels.largestActivationCode(bits: bits))
    precondition(row.count <= target.count, "too few codes")
    guard let q = target.baseAddress else { return CodeRow(scale: 1, sum: 0) }
    (q + row.count).update(repeating: 0, count: target.count - row.count)
    guard let x = row.baseAddress else { return CodeRow(scale: 1, sum: 0) }
    let result = table.pointee.quantize_dynamic(x, row.count, -high, high, q)
    return CodeRow(scale: result.scale, sum: result.sum)
  }

  /// q[k] = clamp(round(x[k] / scale) + zero, −2^(bits−1), 2^(bits−1) − 1) with scale and zero of the
  /// row's own range [m, M], which 0 belongs to: scale = M/Q − m/Q with Q = 2^bits − 1,
  /// zero = clamp(round(−2^(bits−1) − m / scale)).
  ///
  /// Scales of rows of zeros, small rows and rows that are not finite are as for `quantizeDynamically`, and
  /// the last have zero 0.
  ///
  /// - Precondition: as for `quantizeStatically`.
  package func quantizeAsymmetrically(
    _ row: UnsafeBufferPointer<Float>, bits: Int, into target: UnsafeMutableBufferPointer<Int8>
  ) -> OffsetCodeRow {
    let high = Int32(Kernels.largestActivationCode(bits: bits))
    precondition(row.count <= target.count, "too few codes")
    guard let q = target.baseAddress else { return OffsetCodeRow(scale: 1, sum: 0, zero: 0) }
    (q + row.count).update(repeating: 0, count: target.count - row.count)
    guard let x = row.baseAddress else { return OffsetCodeRow(scale: 1, sum: 0, zero: 0) }
    let result = table.pointee.quantize_asymmetric(x, row.count, -high - 1, high, q)
    return OffsetCodeRow(scale: result.scale, sum: result.sum, zero: result.zero)
  }

  /// `quantizeDynamically` of each group of `groupSize` elements, of which the last may have fewer.
  ///
  /// - Parameter groups: the meaning of each group.
  /// - Precondition: as for `quantizeStatically`; there is a place for every group.
  package func quantizeGroups(
    _ row: UnsafeBufferPointer<Float>, bits: Int, groupSize: Int, into target: UnsafeMutableBufferPointer<Int8>,
    groups: UnsafeMutableBufferPointer<CodeRow>
  ) {
    let high = Int32(Kernels.largestActivationCode(bits: bits))
    precondition(row.count <= target.count, "too few codes")
    precondition(groupSize > 0 && groups.count >= (row.count + groupSize - 1) / groupSize, "too few groups")
    guard let q = target.baseAddress else { return }
    (q + row.count).update(repeating: 0, count: target.count - row.count)
    guard let x = row.baseAddress, let rows = groups.baseAddress else { return }
    rows.withMemoryRebound(to: ot_code_row.self, capacity: groups.count) {
      table.pointee.quantize_groups(x, row.count, groupSize, -high, high, q, $0)
    }
  }

  /// `quantizeAsymmetrically` of each group of `groupSize` elements, of which the last may have fewer.
  ///
  /// - Parameters:
  ///   - groups: the scale and the sum of each group.
  ///   - zeros: the code of 0 of each group.
  /// - Precondition: as for `quantizeGroups`.
  package func quantizeGroupsAsymmetrically(
    _ row: UnsafeBufferPointer<Float>, bits: Int, groupSize: Int, into target: UnsafeMutableBufferPointer<Int8>,
    groups: UnsafeMutableBufferPointer<CodeRow>, zeros: UnsafeMutableBufferPointer<Int32>
  ) {
    let groupCount = (row.count + groupSize - 1) / groupSize
    precondition(row.count <= target.count, "too few codes")
    precondition(groupSize > 0 && groups.count >= groupCount && zeros.count >= groupCount, "too few groups")
    for group in 0..<groupCount {
      let columns = group * groupSize..<min((group + 1) * groupSize, row.count)
      let meaning = quantizeAsymmetrically(
        UnsafeBufferPointer(rebasing: row[columns]), bits: bits,
        into: UnsafeMutableBufferPointer(rebasing: target[columns]))
      groups[group] = CodeRow(scale: meaning.scale, sum: meaning.sum)
      zeros[group] = meaning.zero
    }
    UnsafeMutableBufferPointer(rebasing: target[row.count...]).update(repeating: 0)
  }

  /// Three digits of base 256 per element, each −128 ... 127, so that
  /// x[k] = scale · (65536 d0[k] + 256 d1[k] + d2[k]) to within scale / 2.
  ///
  /// The scale, which is returned, is max|x| / 8,355,711: 24 bits, as many as a
  /// float32's significand has. It is 1 for a row of zeros and at least 2^−126; a
  /// row with NaN or infinity gets digits 0 and scale NaN.
  /// - Parameters:
  ///   - digits: `[3, stride]`, the highest digits first. Those beyond the row's
  ///     elements are set to 0.
  ///   - sums: The sums of each digit.
  /// - Precondition: `stride >= row.count`, `digits.count >= 3 · stride`.
  package func splitDigits(
    _ row: UnsafeBufferPointer<Float>, into digits: UnsafeMutableBufferPointer<Int8>, stride: Int,
    sums: UnsafeMutableBufferPointer<Int32>
  ) -> Float {
    precondition(stride >= row.count && digits.count >= 3 * stride && sums.count >= 3)
    guard let total = sums.baseAddress else { return 1 }
    total.update(repeating: 0, count: 3)
    guard let q = digits.baseAddress else { return 1 }
    for digit in 0..<3 {
      (q + digit * stride + row.count).update(repeating: 0, count: stride - row.count)
    }
    guard let x = row.baseAddress else { return 1 }
    return table.pointee.split_digits(x, row.count, q, stride, total)
  }
}
