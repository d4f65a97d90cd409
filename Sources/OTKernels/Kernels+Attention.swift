import COTKernels
import OTTensor

/// Attention of consecutive queries of one head:
/// y = softmax(scale · q·k + slope · position of k) v.
///
/// A query's result depends only on itself and the keys it sees: it has the same
/// bits in whatever pieces the queries come.
public struct AttentionBlock {
  /// Query i starts at element `i · queryStride`.
  public var queries: UnsafeBufferPointer<Float>
  /// Elements from query to query.
  public var queryStride: Int
  /// Number of queries.
  public var queryCount: Int
  /// Keys as `storeKeys` lays them, in whole blocks of 16 positions.
  public var keys: UnsafeBufferPointer<Float>
  /// The value at position p starts at element `p · valueStride`.
  public var values: UnsafeBufferPointer<Float>
  /// Elements from value to value.
  public var valueStride: Int
  /// Positions that hold a key and a value.
  public var keyCount: Int
  /// Channels of a query, key or value.
  public var headSize: Int
  /// Position of query 0.
  public var firstPosition: Int
  /// Whether a query at position p sees keys 0 ... p only.
  public var isCausal: Bool
  /// Factor of the scores.
  public var scale: Float
  /// ALiBi's slope; 0 for none.
  public var slope: Float = 0
  /// One byte per key, 0 for those that are not seen; nil: all are. A query that
  /// sees none gets the value at its own position, 0 where there is none.
  public var mask: UnsafeBufferPointer<UInt8>?
  /// Result i starts at element `i · targetStride`.
  public var target: UnsafeMutableBufferPointer<Float>
  /// Elements from result to result.
  public var targetStride: Int

  /// Attention without slope and mask: see the properties for shapes.
  public init(
    queries: UnsafeBufferPointer<Float>, queryStride: Int, queryCount: Int,
    keys: UnsafeBufferPointer<Float>, values: UnsafeBufferPointer<Float>, valueStride: Int,
    keyCount: Int, headSize: Int, firstPosition: Int, isCausal: Bool, scale: Float,
    target: UnsafeMutableBufferPointer<Float>, targetStride: Int
  ) {
    self.queries = queries
    self.queryStride = queryStride
    self.queryCount = queryCount
    self.keys = keys
    self.values = values
    self.valueStride = valueStride
    self.keyCount = keyCount
    self.headSize = headSize
    self.firstPosition = firstPosition
    self.isCausal = isCausal
    self.scale = scale
    self.target = target
    self.targetStride = targetStride
  }
}

extension Kernels {
  /// Floats that `attend` needs as scratch.
  public static func attentionScratchCount(headSize: Int) -> Int {
    precondition(headSize > 0)
    return ot_attention_scratch_count(headSize)
  }

  /// Floats of a cache for the keys of one head: whole blocks of 16 positions.
  public static func keyCacheCount(positionCount: Int, headSize: Int) -> Int {
    positionCount.roundedUp(toMultipleOf: 16) * headSize
  }

  /// Carries out `block`.
  ///
  /// - Precondition: The counts of all buffers fit, causal queries have their
  ///   own key, and `scratch` has `attentionScratchCount(headSize:)` elements.
  public func attend(_ block: AttentionBlock, scratch: UnsafeMutableBufferPointer<Float>) {
    let (headSize, keyCount) = (block.headSize, block.keyCount)
    guard block.queryCount > 0 else { return }
    precondition(headSize > 0 && keyCount > 0 && block.firstPosition >= 0)
    precondition(!block.isCausal || block.firstPosition + block.queryCount <= keyCount)
    precondition(Kernels.holds(block.queries.count, block.queryCount, headSize, block.queryStride))
    precondition(Kernels.holds(block.target.count, block.queryCount, headSize, block.targetStride))
    precondition(Kernels.holds(block.values.count, keyCount, headSize, block.valueStride))
    precondition(
      block.keys.count >= Kernels.keyCacheCount(positionCount: keyCount, headSize: headSize))
    precondition((block.mask?.count ?? keyCount) >= keyCount, "too short a mask")
    precondition(scratch.count >= Kernels.attentionScratchCount(headSize: headSize))
    guard let q = block.queries.baseAddress, let keys = block.keys.baseAddress,
      let values = block.values.baseAddress, let y = block.target.baseAddress,
      let room = scratch.baseAddress
    else { return }
    var call = ot_attention(
      q: q, q_stride: block.queryStride, query_count: block.queryCount, keys: keys, values: values,
      value_stride: block.valueStride, key_count: keyCount, head_size: headSize,
      first_position: block.firstPosition, is_causal: block.isCausal ? 1 : 0, scale: block.scale,
      slope: block.slope, mask: block.mask?.baseAddress, y: y, y_stride: block.targetStride,
      scratch: room)
    table.pointee.attention(&call)
  }

  /// Rotates channels i and i + `cosines.count` of each head by an angle, given
  /// as its cosine and sine: a · cos − b · sin and b · cos + a · sin.
  ///
  /// - Precondition: `row` is whole heads, each at least twice as many channels
  ///   as there are angles.
  public func rotate(
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
  public func storeKeys(
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
