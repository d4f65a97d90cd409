import OTFoundation
import OTKernels
import _OTTestSupport

/// Rows of codes with one scale each.
struct CodeRows {
  var codes: [[Int8]] = []
  var scales: [Float] = []

  /// `rows` rounded to `bits` bits, the largest magnitude of a row becoming the largest code.
  init(rounding rows: [[Float]], bits: Int) {
    let high = Float(1 << (bits - 1) - 1)
    for row in rows {
      let scale = (row.map(abs).max() ?? 0) / high
      scales.append(scale)
      codes.append(row.map { scale == 0 ? 0 : Int8(($0 / scale).rounded(.toNearestOrEven)) })
    }
  }

  var floats: [[Float]] { zip(codes, scales).map { row, scale in row.map { Float($0) * scale } } }
}

/// An `AttentionCase` of codes.
struct CodeAttentionCase {
  var queries, keys, values: CodeRows
  /// All else; its queries, keys and values do not count.
  var shape: AttentionCase

  init(rounding attention: AttentionCase, bits: Int) {
    shape = attention
    queries = CodeRows(rounding: attention.queries, bits: bits)
    keys = CodeRows(rounding: attention.keys, bits: bits)
    values = CodeRows(rounding: attention.values, bits: bits)
  }

  /// From the formula, in float64, of what the codes stand for.
  var expected: [[Double]] {
    var exact = shape
    (exact.queries, exact.keys, exact.values) = (queries.floats, keys.floats, values.floats)
    return exact.expected
  }

  /// The kernels' results for queries `range`. Memory that no code or scale of
  /// the case is in holds `filler`.
  func result(of kernels: Kernels, queries range: Range<Int>? = nil, filler: UInt8 = 0x5A) -> [[Float]] {
    let range = range ?? queries.codes.indices
    let (size, valueSize) = (shape.headSize, shape.valueSize)
    let (stride, valueStride, count) = (size + 3, valueSize + 3, keys.codes.count)
    let odd = Float(bitPattern: UInt32(filler) << 24 | UInt32(filler))
    func flat(_ rows: ArraySlice<[Int8]>) -> [Int8] {
      rows.flatMap { $0 + [Int8](repeating: Int8(bitPattern: filler), count: 3) }
    }
    func padded(_ scales: [Float]) -> [Float] {
      scales + [Float](repeating: odd, count: count.roundedUp(toMultipleOf: 16) - count)
    }
    var keyCache = [UInt8](repeating: filler, count: Kernels.keyCodeCount(positionCount: count, headSize: size))
    var valueCache = [Int8](
      repeating: Int8(bitPattern: filler), count: Kernels.valueCodeCount(positionCount: count, headSize: valueSize))
    kernels.storeCodes(
      keys: flat(keys.codes[...]), values: flat(values.codes[...]), stride: stride, valueStride: valueStride,
      count: count, headSize: size, valueSize: valueSize, firstPosition: 0, into: &keyCache, &valueCache)
    var target = [Float](repeating: 7, count: range.count * valueStride)
    var scratch = [Float](
      repeating: odd, count: Kernels.codeAttentionScratchCount(headSize: size, valueSize: valueSize))
    let mask = shape.mask?.map { $0 ? UInt8(1) : 0 }
    flat(queries.codes[range]).withUnsafeBufferPointer { q in
      queries.scales[range].withUnsafeBufferPointer { queryScales in
        padded(keys.scales).withUnsafeBufferPointer { keyScales in
          padded(values.scales).withUnsafeBufferPointer { valueScales in
            keyCache.withUnsafeBufferPointer { keyCache in
              valueCache.withUnsafeBufferPointer { valueCache in
                (mask ?? []).withUnsafeBufferPointer { bytes in
                  target.withUnsafeMutableBufferPointer { y in
                    var head = HeadAttention(
                      headSize: size, valueSize: valueSize, queryCount: queryScales.count, queryStride: stride,
                      firstPosition: shape.firstPosition + range.lowerBound, keyCount: count,
                      isCausal: shape.isCausal, scale: shape.scale, target: y, targetStride: valueStride)
                    head.slope = shape.slope
                    head.window = shape.window
                    head.softCap = shape.softCap
                    head.mask = mask == nil ? nil : bytes
                    let block = CodeAttentionBlock(
                      head, queries: q, queryScales: queryScales, keys: keyCache, values: valueCache,
                      keyScales: keyScales, valueScales: valueScales)
                    shape.withBias { bias in
                      var block = block
                      block.head.bias = bias
                      shape.withSink { sink in
                        block.head.sink = sink
                        scratch.withUnsafeMutableBufferPointer { kernels.attend(block, scratch: $0) }
                      }
                    }
                  }
                }
              }
            }
          }
        }
      }
    }
    return range.indices.map { index in
      let start = (index - range.lowerBound) * valueStride
      return Array(target[start..<start + valueSize])
    }
  }
}

extension Kernels {
  func storeCodes(
    keys: [Int8], values: [Int8], stride: Int, valueStride: Int? = nil, count: Int, headSize: Int,
    valueSize: Int? = nil, firstPosition: Int, into keyCache: inout [UInt8], _ valueCache: inout [Int8]
  ) {
    keys.withUnsafeBufferPointer { keys in
      keyCache.withUnsafeMutableBufferPointer {
        storeKeyCodes(keys, stride: stride, count: count, headSize: headSize, firstPosition: firstPosition, into: $0)
      }
    }
    values.withUnsafeBufferPointer { values in
      valueCache.withUnsafeMutableBufferPointer {
        storeValueCodes(
          values, stride: valueStride ?? stride, count: count, headSize: valueSize ?? headSize,
          firstPosition: firstPosition, into: $0)
      }
    }
  }
}
