import COTKernels
import OTFoundation

/// Attention of consecutive queries of one head, of floats or of quantized values:
/// y = softmax(cap(scale · q·k) + slope · position of k + bias(position of k − position of q)) v, where a sink is one
/// more score, which has no value.
package struct HeadAttention {
  /// Channels of a query or key.
  package var headSize: Int
  /// Channels of a value, and of a result.
  package var valueSize: Int
  /// Number of queries.
  package var queryCount: Int
  /// Elements from query to query.
  package var queryStride: Int
  /// Position of query 0.
  package var firstPosition: Int
  /// Positions that hold a key and a value.
  package var keyCount: Int
  /// True when a query at position p sees keys 0 ... p only.
  package var isCausal: Bool
  /// A query sees keys whose distance from it is less than this; 0 for all.
  package var window = 0
  /// Factor of the scores.
  package var scale: Float
  /// c of cap(s) = c · tanh(s / c); 0 for s itself.
  package var softCap: Float = 0
  /// ALiBi's slope; 0 for none.
  package var slope: Float = 0
  /// Added to scores, by distance; nil for none.
  package var bias: DistanceBias?
  /// The score of a sink; nil for none.
  package var sink: UnsafePointer<Float>?
  /// One byte per key, 0 for those that are not seen; nil: all are. A query that
  /// sees none gets the value at its own position, 0 where there is none.
  package var mask: UnsafeBufferPointer<UInt8>?
  /// Result i starts at element `i · targetStride`.
  package var target: UnsafeMutableBufferPointer<Float>
  /// Elements from result to result.
  package var targetStride: Int

  /// Attention without window, soft cap, slope and mask; values are as wide as keys where nothing else is said.
  package init(
    headSize: Int, valueSize: Int? = nil, queryCount: Int, queryStride: Int, firstPosition: Int, keyCount: Int,
    isCausal: Bool, scale: Float,
    target: UnsafeMutableBufferPointer<Float>, targetStride: Int
  ) {
    self.headSize = headSize
    self.valueSize = valueSize ?? headSize
    self.queryCount = queryCount
    self.queryStride = queryStride
    self.firstPosition = firstPosition
    self.keyCount = keyCount
    self.isCausal = isCausal
    self.scale = scale
    self.target = target
    self.targetStride = targetStride
  }

  /// That it is possible, with `queryElementCount` elements of queries.
  func check(queryElementCount: Int) {
    precondition(headSize > 0 && valueSize > 0 && keyCount > 0 && firstPosition >= 0)
    precondition(!isCausal || firstPosition + queryCount <= keyCount)
    precondition(window >= 0)
    if let bias {
      precondition(bias.zero >= firstPosition + max(0, queryCount - 1), "a distance without a bias")
      precondition(bias.values.count - bias.zero >= keyCount.roundedUp(toMultipleOf: 16), "a distance without a bias")
    }
    precondition(Kernels.holds(queryElementCount, queryCount, headSize, queryStride))
    precondition(Kernels.holds(target.count, queryCount, valueSize, targetStride))
    precondition((mask?.count ?? keyCount) >= keyCount, "too short a mask")
  }
}

/// What is added to scores by the distance of the key from the query, key − query.
package struct DistanceBias {
  /// The biases of consecutive distances.
  package var values: UnsafeBufferPointer<Float>
  /// The index of distance 0. Before it are those of as many distances as queries have positions, from it on those
  /// of all keys, up to a multiple of 16.
  package var zero: Int

  /// See the properties.
  package init(_ values: UnsafeBufferPointer<Float>, zero: Int) { (self.values, self.zero) = (values, zero) }

  /// The bias of distance 0.
  var start: UnsafePointer<Float>? { values.baseAddress.map { $0 + zero } }
}

/// Attention of floats.
///
/// A query's result depends only on itself and the keys it sees: it has the same
/// bits in whatever pieces the queries come.
package struct AttentionBlock {
  /// The attention to compute, and the target of its results.
  package var head: HeadAttention
  /// Query i starts at element `i · queryStride`.
  package var queries: UnsafeBufferPointer<Float>
  /// Keys as `storeKeys` lays them, in whole blocks of 16 positions.
  package var keys: UnsafeBufferPointer<Float>
  /// The value at position p starts at element `p · valueStride`.
  package var values: UnsafeBufferPointer<Float>
  /// Elements from value to value.
  package var valueStride: Int

  /// See the properties for shapes.
  package init(
    _ head: HeadAttention, queries: UnsafeBufferPointer<Float>, keys: UnsafeBufferPointer<Float>,
    values: UnsafeBufferPointer<Float>, valueStride: Int
  ) {
    self.head = head
    self.queries = queries
    self.keys = keys
    self.values = values
    self.valueStride = valueStride
  }
}

extension Kernels {
  /// Floats that `attend` needs as scratch.
  package static func attentionScratchCount(headSize: Int, valueSize: Int? = nil) -> Int {
    let valueSize = valueSize ?? headSize
    precondition(headSize > 0 && valueSize > 0)
    return ot_attention_scratch_count(headSize, valueSize)
  }

  /// Floats of a cache for the keys of one head: whole blocks of 16 positions.
  package static func keyCacheCount(positionCount: Int, headSize: Int) -> Int {
    positionCount.roundedUp(toMultipleOf: 16) * headSize
  }

  /// Carries out `block`.
  ///
  /// - Precondition: The counts of all buffers fit, causal queries have their
  ///   own key, and `scratch` has `attentionScratchCount(headSize:valueSize:)` elements.
  package func attend(_ block: AttentionBlock, scratch: UnsafeMutableBufferPointer<Float>) {
    let head = block.head
    let (headSize, valueSize, keyCount) = (head.headSize, head.valueSize, head.keyCount)
    guard head.queryCount > 0 else { return }
    head.check(queryElementCount: block.queries.count)
    precondition(Kernels.holds(block.values.count, keyCount, valueSize, block.valueStride))
    precondition(
      block.keys.count >= Kernels.keyCacheCount(positionCount: keyCount, headSize: headSize))
    precondition(scratch.count >= Kernels.attentionScratchCount(headSize: headSize, valueSize: valueSize))
    guard let q = block.queries.baseAddress, let keys = block.keys.baseAddress,
      let values = block.values.baseAddress, let y = head.target.baseAddress, let room = scratch.baseAddress
    else { return }
    var call = ot_attention(
      q: q, q_stride: head.queryStride, query_count: head.queryCount, keys: keys, values: values,
      value_stride: block.valueStride, key_count: keyCount, head_size: headSize, value_size: valueSize,
      first_position: head.firstPosition, is_causal: head.isCausal ? 1 : 0, window: head.window, scale: head.scale,
      soft_cap: head.softCap, slope: head.slope, bias: head.bias?.start, mask: head.mask?.baseAddress, y: y,
      y_stride: head.targetStride,
      scratch: room, sink: head.sink)
    table.pointee.attention(&call)
  }

  /// Rotates channels i and i + `cosines.count` of each head by an angle, given
  /// as its cosine and sine: a · cos − b · sin and b · cos + a · sin.
  ///
  /// - Precondition: `row` is whole heads, each at least twice as many channels
  ///   as there are angles.
  package func rotate(
    _ row: UnsafeMutableBufferPointer<Float>, headSize: Int, cosines: UnsafeBufferPointer<Float>,
    sines: UnsafeBufferPointer<Float>
  ) {
    precondition(headSize > 0 && row.count % headSize == 0, "not whole heads")
    precondition(cosines.count == sines.count && 2 * cosines.count <= headSize)
    guard let x = row.baseAddress, let cos = cosines.baseAddress, let sin = sines.baseAddress else {
      return
    }
    table.pointee.rotate(x, row.count / headSize, headSize, cos, sin, cosines.count)
  }

  /// Puts `count` keys of one head, `stride` elements apart, into a cache that
  /// is transposed in blocks of 16 positions: channel c of position p is element
  /// `(p / 16 · headSize + c) · 16 + p % 16`.
  package func storeKeys(
    _ keys: UnsafeBufferPointer<Float>, stride: Int, count: Int, headSize: Int,
    firstPosition: Int, into cache: UnsafeMutableBufferPointer<Float>
  ) {
    guard count > 0 else { return }
    precondition(headSize > 0 && firstPosition >= 0)
    precondition(Kernels.holds(keys.count, count, headSize, stride))
    precondition(
      cache.count
        >= Kernels.keyCacheCount(positionCount: firstPosition + count, headSize: headSize))
    guard let k = keys.baseAddress, let to = cache.baseAddress else { return }
    table.pointee.store_keys(k, stride, count, headSize, firstPosition, to)
  }
}
