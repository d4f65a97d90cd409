import Foundation
import OTFoundation
import OTKernels
import _OTTestSupport

/// One head's queries, keys and values, and softmax attention over them.
struct AttentionCase {
  /// `[query][headSize]`, `[key][headSize]`, `[key][valueSize]`.
  var queries: [[Float]]
  var keys: [[Float]]
  var values: [[Float]]
  var headSize: Int
  var valueSize: Int
  var firstPosition: Int
  var isCausal: Bool
  var scale: Float
  var slope: Float = 0
  /// The distance from which on a query sees no key, and the bound that scores are bent to; 0: none.
  var window = 0
  var softCap: Float = 0
  var mask: [Bool]?
  /// A score that has no value.
  var sink: Float?
  /// Biases of distances from −(queries' positions) on, and the index of distance 0.
  var bias: (values: [Float], zero: Int)?

  /// Random biases within ±2 of all distances, with `filler` beyond.
  mutating func addBias(filler: Float = .nan, using generator: inout SeededGenerator) {
    let zero = firstPosition + queries.count - 1
    let known = (0..<zero + keys.count).map { _ in Float.random(in: -2...2, using: &generator) }
    let rest = keys.count.roundedUp(toMultipleOf: 16) - keys.count
    bias = (known + [Float](repeating: filler, count: rest), zero)
  }

  /// Calls `body` with the biases as kernels take them.
  func withBias<Result>(_ body: (DistanceBias?) -> Result) -> Result {
    guard let bias else { return body(nil) }
    return bias.values.withUnsafeBufferPointer { body(DistanceBias($0, zero: bias.zero)) }
  }

  /// Calls `body` with the sink as kernels take it.
  func withSink<Result>(_ body: (UnsafePointer<Float>?) -> Result) -> Result {
    guard let sink else { return body(nil) }
    return withUnsafePointer(to: sink) { body($0) }
  }

  /// Random queries, keys and values, these as wide as keys where nothing else is said. Causal queries end with the
  /// last key.
  init(
    queryCount: Int, keyCount: Int, headSize: Int, valueSize: Int? = nil, isCausal: Bool,
    using generator: inout SeededGenerator
  ) {
    func rows(_ count: Int, _ bound: Float, size: Int) -> [[Float]] {
      (0..<count).map { _ in
        (0..<size).map { _ in Float.random(in: -bound...bound, using: &generator) }
      }
    }
    let valueSize = valueSize ?? headSize
    queries = rows(queryCount, 3, size: headSize)
    keys = rows(keyCount, 2, size: headSize)
    values = rows(keyCount, 1, size: valueSize)
    (self.headSize, self.valueSize) = (headSize, valueSize)
    self.isCausal = isCausal
    firstPosition = isCausal ? keyCount - queryCount : 0
    scale = 1 / Float(headSize).squareRoot()
  }

  /// The kernels' results for queries `range`. Memory beyond the elements of
  /// rows, and keys and values beyond the last, hold `filler`.
  func result(
    of kernels: Kernels, queries range: Range<Int>? = nil, filler: Float = .nan
  ) -> [[Float]] {
    let range = range ?? queries.indices
    let (stride, valueStride) = (headSize + 3, valueSize + 3)
    func flat(_ rows: [[Float]]) -> [Float] {
      rows.flatMap { $0 + [Float](repeating: filler, count: 3) }
    }
    let cacheCount = Kernels.keyCacheCount(positionCount: keys.count, headSize: headSize)
    var cache = [Float](repeating: filler, count: cacheCount)
    flat(keys).withUnsafeBufferPointer { keys in
      cache.withUnsafeMutableBufferPointer {
        kernels.storeKeys(
          keys, stride: stride, count: self.keys.count, headSize: headSize, firstPosition: 0,
          into: $0)
      }
    }
    var target = [Float](repeating: 7, count: range.count * valueStride)
    var scratch = [Float](
      repeating: filler, count: Kernels.attentionScratchCount(headSize: headSize, valueSize: valueSize))
    let bytes = (mask ?? []).map { $0 ? UInt8(1) : 0 }
    flat(Array(queries[range])).withUnsafeBufferPointer { q in
      flat(values).withUnsafeBufferPointer { v in
        bytes.withUnsafeBufferPointer { bytes in
          cache.withUnsafeBufferPointer { cache in
            target.withUnsafeMutableBufferPointer { y in
              var head = HeadAttention(
                headSize: headSize, valueSize: valueSize, queryCount: range.count, queryStride: stride,
                firstPosition: firstPosition + range.lowerBound, keyCount: keys.count, isCausal: isCausal,
                scale: scale, target: y, targetStride: valueStride)
              head.slope = slope
              head.window = window
              head.softCap = softCap
              head.mask = mask == nil ? nil : bytes
              let block = AttentionBlock(head, queries: q, keys: cache, values: v, valueStride: valueStride)
              withBias { bias in
                var block = block
                block.head.bias = bias
                withSink { sink in
                  block.head.sink = sink
                  scratch.withUnsafeMutableBufferPointer { kernels.attend(block, scratch: $0) }
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

  /// The same from the formula, in float64 with the whole row of scores.
  var expected: [[Double]] {
    queries.indices.map { query in
      let position = firstPosition + query
      let seen = keys.indices.filter {
        (!isCausal || $0 <= position) && (window == 0 || abs($0 - position) < window) && (mask?[$0] ?? true)
      }
      guard !seen.isEmpty else {
        return sink == nil && keys.indices.contains(position)
          ? values[position].map { Double($0) } : [Double](repeating: 0, count: valueSize)
      }
      let scores = seen.map { key in
        let score = zip(queries[query], keys[key]).map { Double($0) * Double($1) }.reduce(0, +) * Double(scale)
        let bent = softCap == 0 ? score : Double(softCap) * tanh(score / Double(softCap))
        return bent + Double(slope) * Double(key) + Double(bias.map { $0.values[$0.zero + key - position] } ?? 0)
      }
      let sink = sink.map { Double($0) } ?? -.infinity
      let greatest = max(scores.max() ?? 0, sink)
      let weights = scores.map { exp($0 - greatest) }
      let sum = weights.reduce(0, +) + exp(sink - greatest)
      return (0..<valueSize).map { channel in
        zip(seen, weights).map { Double(values[$0][channel]) * $1 }.reduce(0, +) / sum
      }
    }
  }
}
