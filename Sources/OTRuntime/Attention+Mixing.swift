import Foundation
import OTGraph
import OTTensor

extension Attention {
  /// Softmax attention over one sequence.
  ///
  /// Products, softmax and sums are float32. Each head holds its matrix of
  /// scores `[tokens, tokens]`; heads run in parallel.
  ///
  /// - Parameters:
  ///   - mask: which tokens may be seen as keys; nil: all. A token that would
  ///     see none sees itself, so that every row of the matrix sums to 1.
  func mixed(
    queries: Matrix, keys: Matrix, values: Matrix, mask: [Bool]?, threadCount: Int
  ) throws -> Matrix {
    var queries = queries
    var keys = keys
    if case .rotary(let rotary) = positions {
      queries = try rotary.rotated(queries, headSize: headSize, threadCount: threadCount)
      keys = try rotary.rotated(keys, headSize: headSize, threadCount: threadCount)
    }
    var slopes: [Float]?
    if case .alibi = positions { slopes = Attention.alibiSlopes(headCount: headCount) }
    let rowCount = queries.rowCount
    let (rotatedQueries, rotatedKeys, headSlopes) = (queries, keys, slopes)
    return try .written(rowCount: rowCount, channelCount: headCount * headSize) { buffer in
      nonisolated(unsafe) let target = buffer
      _ = try mapBlocks(headCount, threadCount: threadCount) { head in
        mixHead(
          head, queries: rotatedQueries, keys: rotatedKeys, values: values, mask: mask,
          slope: headSlopes?[head], into: target)
      }
    }
  }

  private func mixHead(
    _ head: Int, queries: Matrix, keys: Matrix, values: Matrix, mask: [Bool]?, slope: Float?,
    into target: UnsafeMutableBufferPointer<Float>
  ) {
    let count = queries.rowCount
    let start = head * headSize
    let sharedStart = head / (headCount / keyValueHeadCount) * headSize
    func operand(_ buffer: UnsafeBufferPointer<Float>, _ start: Int, _ stride: Int) -> BLAS.Operand {
      BLAS.Operand(base: buffer.baseAddress.map { $0 + start }, stride: stride)
    }
    withUnsafeTemporaryAllocation(of: Float.self, capacity: count * count) { scores in
      queries.values.withUnsafeBufferPointer { queryBuffer in
        keys.values.withUnsafeBufferPointer { keyBuffer in
          BLAS.multiplyTransposed(
            m: count, n: count, k: headSize, factor: scale,
            operand(queryBuffer, start, queries.channelCount),
            operand(keyBuffer, sharedStart, keys.channelCount),
            into: scores.baseAddress, stride: count)
        }
      }
      for query in 0..<count {
        let row = UnsafeMutableBufferPointer(rebasing: scores[query * count..<(query + 1) * count])
        weigh(row, query: query, mask: mask, slope: slope)
      }
      values.values.withUnsafeBufferPointer { valueBuffer in
        BLAS.multiply(
          m: count, n: headSize, k: count,
          BLAS.Operand(base: UnsafePointer(scores.baseAddress), stride: count),
          operand(valueBuffer, sharedStart, values.channelCount),
          into: target.baseAddress.map { $0 + start }, stride: headCount * headSize)
      }
    }
  }

  /// Turns the scores of one query into weights that sum to 1.
  private func weigh(
    _ row: UnsafeMutableBufferPointer<Float>, query: Int, mask: [Bool]?, slope: Float?
  ) {
    let visible = isCausal ? query + 1 : row.count
    if let slope {
      for key in 0..<visible { row[key] += slope * Float(key) }
    }
    if let mask {
      for key in 0..<visible where !mask[key] { row[key] = -.infinity }
    }
    for key in visible..<row.count { row[key] = 0 }
    var greatest = -Float.infinity
    for key in 0..<visible { greatest = max(greatest, row[key]) }
    guard greatest > -.infinity else {
      for key in row.indices { row[key] = key == query ? 1 : 0 }
      return
    }
    var sum: Float = 0
    for key in 0..<visible {
      let weight = expf(row[key] - greatest)
      row[key] = weight
      sum += weight
    }
    let factor = 1 / sum
    for key in 0..<visible { row[key] *= factor }
  }

  /// Slopes of ALiBi, one per head, rounded from float64.
  ///
  /// For 2^n heads the powers 1…2^n of 2^(−8/2^n); for other counts those of
  /// the next lower power of 2, then odd powers of the series for the next
  /// higher one, as BLOOM's `build_alibi_tensor` does.
  static func alibiSlopes(headCount: Int) -> [Float] {
    var lower = 1
    while lower * 2 <= headCount { lower *= 2 }
    let base = exp2(-8 / Double(lower))
    let between = exp2(-4 / Double(lower))
    return (0..<headCount).map { head in
      head < lower
        ? Float(pow(base, Double(head + 1))) : Float(pow(between, Double(2 * (head - lower) + 1)))
    }
  }
}

extension Rotary {
  /// Rotates channels `i` and `i + dimensions/2` of each head by the row's
  /// number times `frequencies[i]`. As in the models' original
  /// implementations, the frequencies and angles are rounded to float32.
  func rotated(_ matrix: Matrix, headSize: Int, threadCount: Int) throws -> Matrix {
    let frequencies = self.frequencies.map { Float($0) }
    let half = dimensions / 2
    let channelCount = matrix.channelCount
    return try .filled(
      rowCount: matrix.rowCount, channelCount: channelCount, threadCount: threadCount
    ) { rows, target in
      var cosines = [Float](repeating: 0, count: half)
      var sines = cosines
      for row in rows {
        for pair in 0..<half {
          let angle = Float(row) * frequencies[pair]
          cosines[pair] = cosf(angle)
          sines[pair] = sinf(angle)
        }
        let from = row * channelCount
        let to = (row - rows.lowerBound) * channelCount
        for channel in 0..<channelCount { target[to + channel] = matrix.values[from + channel] }
        for head in stride(from: 0, to: channelCount, by: headSize) {
          for pair in 0..<half {
            let a = matrix.values[from + head + pair]
            let b = matrix.values[from + head + half + pair]
            target[to + head + pair] = a * cosines[pair] - b * sines[pair]
            target[to + head + half + pair] = b * cosines[pair] + a * sines[pair]
          }
        }
      }
    }
  }
}
