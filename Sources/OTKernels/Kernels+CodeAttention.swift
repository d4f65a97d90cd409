import COTKernels
import OTTensor

/// Attention of consecutive queries of one head, of codes −127 ... 127 with one
/// scale per token: a query is `queryScales[i]` times its codes, keys and values likewise.
///
/// Products are summed exactly in integers. A query's result depends only on itself
/// and the keys it sees: it has the same bits in whatever pieces the queries come.
public struct CodeAttentionBlock {
  /// Query i starts at element `i · queryStride`.
  public var queries: UnsafeBufferPointer<Int8>
  /// Elements from query to query.
  public var queryStride: Int
  /// One per query.
  public var queryScales: UnsafeBufferPointer<Float>
  /// Keys as `storeKeyCodes` lays them.
  public var keys: UnsafeBufferPointer<UInt8>
  /// Values as `storeValueCodes` lays them.
  public var values: UnsafeBufferPointer<Int8>
  /// One per position, up to a multiple of 16; those beyond the keys do not matter.
  public var keyScales: UnsafeBufferPointer<Float>
  /// As `keyScales`.
  public var valueScales: UnsafeBufferPointer<Float>
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
  /// As in `AttentionBlock`.
  public var mask: UnsafeBufferPointer<UInt8>?
  /// Result i starts at element `i · targetStride`.
  public var target: UnsafeMutableBufferPointer<Float>
  /// Elements from result to result.
  public var targetStride: Int

  /// Attention without slope and mask: see the properties for shapes.
  public init(
    queries: UnsafeBufferPointer<Int8>, queryStride: Int, queryScales: UnsafeBufferPointer<Float>,
    keys: UnsafeBufferPointer<UInt8>, values: UnsafeBufferPointer<Int8>,
    keyScales: UnsafeBufferPointer<Float>, valueScales: UnsafeBufferPointer<Float>, keyCount: Int,
    headSize: Int, firstPosition: Int, isCausal: Bool, scale: Float,
    target: UnsafeMutableBufferPointer<Float>, targetStride: Int
  ) {
    self.queries = queries
    self.queryStride = queryStride
    self.queryScales = queryScales
    self.keys = keys
    self.values = values
    self.keyScales = keyScales
    self.valueScales = valueScales
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
  /// Floats that `attend` needs as scratch for codes.
  public static func codeAttentionScratchCount(headSize: Int) -> Int {
    precondition(headSize > 0)
    return ot_code_attention_scratch_count(headSize)
  }

  /// Bytes of a cache for the key codes of one head: blocks of 16 positions, 4 channels.
  public static func keyCodeCount(positionCount: Int, headSize: Int) -> Int {
    positionCount.roundedUp(toMultipleOf: 16) * headSize.roundedUp(toMultipleOf: 4)
  }

  /// Bytes of a cache for the value codes of one head: blocks of 16 positions, 16 channels.
  public static func valueCodeCount(positionCount: Int, headSize: Int) -> Int {
    positionCount.roundedUp(toMultipleOf: 16) * headSize.roundedUp(toMultipleOf: 16)
  }

  /// Carries out `block`.
  ///
  /// - Precondition: The counts of all buffers fit, causal queries have their own
  ///   key, and `scratch` has `codeAttentionScratchCount(headSize:)` elements.
  public func attend(_ block: CodeAttentionBlock, scratch: UnsafeMutableBufferPointer<Float>) {
    let (headSize, keyCount, queryCount) = (block.headSize, block.keyCount, block.queryScales.count)
    guard queryCount > 0 else { return }
    precondition(headSize > 0 && keyCount > 0 && block.firstPosition >= 0)
    precondition(!block.isCausal || block.firstPosition + queryCount <= keyCount)
    precondition(Kernels.holds(block.queries.count, queryCount, headSize, block.queryStride))
    precondition(Kernels.holds(block.target.count, queryCount, headSize, block.targetStride))
    precondition(
      block.keys.count >= Kernels.keyCodeCount(positionCount: keyCount, headSize: headSize))
    precondition(
      block.values.count >= Kernels.valueCodeCount(positionCount: keyCount, headSize: headSize))
    precondition(
      min(block.keyScales.count, block.valueScales.count) >= keyCount.roundedUp(toMultipleOf: 16))
    precondition((block.mask?.count ?? keyCount) >= keyCount, "too short a mask")
    precondition(scratch.count >= Kernels.codeAttentionScratchCount(headSize: headSize))
    guard let q = block.queries.baseAddress, let qScales = block.queryScales.baseAddress,
      let keys = block.keys.baseAddress, let values = block.values.baseAddress,
      let keyScales = block.keyScales.baseAddress, let valueScales = block.valueScales.baseAddress,
      let y = block.target.baseAddress, let room = scratch.baseAddress
    else { return }
    var call = ot_code_attention(
      q: q, q_stride: block.queryStride, query_count: queryCount, q_scales: qScales, keys: keys,
      values: values, key_scales: keyScales, value_scales: valueScales, key_count: keyCount,
      head_size: headSize, first_position: block.firstPosition, is_causal: block.isCausal ? 1 : 0,
      scale: block.scale, slope: block.slope, mask: block.mask?.baseAddress, y: y,
      y_stride: block.targetStride, scratch: room)
    table.pointee.code_attention(&call)
  }

  /// Puts `count` keys of one head, `stride` elements apart, into a cache of
  /// [position / 16][channel / 4][16 positions][4 channels] codes, 128 added.
  public func storeKeyCodes(
    _ keys: UnsafeBufferPointer<Int8>, stride: Int, count: Int, headSize: Int, firstPosition: Int,
    into cache: UnsafeMutableBufferPointer<UInt8>
  ) {
    guard count > 0 else { return }
    precondition(headSize > 0 && firstPosition >= 0)
    precondition(Kernels.holds(keys.count, count, headSize, stride))
    precondition(
      cache.count >= Kernels.keyCodeCount(positionCount: firstPosition + count, headSize: headSize))
    guard let k = keys.baseAddress, let to = cache.baseAddress else { return }
    table.pointee.store_key_codes(k, stride, count, headSize, firstPosition, to)
  }

  /// Puts `count` values of one head, `stride` elements apart, into a cache of
  /// [position / 4][channel][4 positions] codes, the channels padded to a multiple of 16.
  public func storeValueCodes(
    _ values: UnsafeBufferPointer<Int8>, stride: Int, count: Int, headSize: Int,
    firstPosition: Int, into cache: UnsafeMutableBufferPointer<Int8>
  ) {
    guard count > 0 else { return }
    precondition(headSize > 0 && firstPosition >= 0)
    precondition(Kernels.holds(values.count, count, headSize, stride))
    precondition(
      cache.count
        >= Kernels.valueCodeCount(positionCount: firstPosition + count, headSize: headSize))
    guard let v = values.baseAddress, let to = cache.baseAddress else { return }
    table.pointee.store_value_codes(v, stride, count, headSize, firstPosition, to)
  }
}
