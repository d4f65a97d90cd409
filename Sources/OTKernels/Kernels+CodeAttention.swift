import COTKernels
import OTFoundation

/// Attention of codes −127 ... 127 with one scale per token: a query is `queryScales[i]`
/// times its codes, keys and values likewise.
///
/// Products are summed exactly in integers. A query's result depends only on itself
/// and the keys it sees: it has the same bits in whatever pieces the queries come.
package struct CodeAttentionBlock {
  /// The attention to compute, and the target of its results.
  package var head: HeadAttention
  /// Query i starts at element `i · queryStride`.
  package var queries: UnsafeBufferPointer<Int8>
  /// One per query.
  package var queryScales: UnsafeBufferPointer<Float>
  /// Keys as `storeKeyCodes` lays them.
  package var keys: UnsafeBufferPointer<UInt8>
  /// Values as `storeValueCodes` lays them.
  package var values: UnsafeBufferPointer<Int8>
  /// One per position, up to a multiple of 16; those beyond the keys do not matter.
  package var keyScales: UnsafeBufferPointer<Float>
  /// As `keyScales`.
  package var valueScales: UnsafeBufferPointer<Float>

  /// See the properties for shapes.
  package init(
    _ head: HeadAttention, queries: UnsafeBufferPointer<Int8>, queryScales: UnsafeBufferPointer<Float>,
    keys: UnsafeBufferPointer<UInt8>, values: UnsafeBufferPointer<Int8>, keyScales: UnsafeBufferPointer<Float>,
    valueScales: UnsafeBufferPointer<Float>
  ) {
    self.head = head
    self.queries = queries
    self.queryScales = queryScales
    self.keys = keys
    self.values = values
    self.keyScales = keyScales
    self.valueScales = valueScales
  }
}

extension Kernels {
  /// Floats that `attend` needs as scratch for codes.
  package static func codeAttentionScratchCount(headSize: Int, valueSize: Int? = nil) -> Int {
    let valueSize = valueSize ?? headSize
    precondition(headSize > 0 && valueSize > 0)
    return ot_code_attention_scratch_count(headSize, valueSize)
  }

  /// Bytes of a cache for the key codes of one head: blocks of 16 positions, 4 channels.
  package static func keyCodeCount(positionCount: Int, headSize: Int) -> Int {
    positionCount.roundedUp(toMultipleOf: 16) * headSize.roundedUp(toMultipleOf: 4)
  }

  /// Bytes of a cache for the value codes of one head: blocks of 16 positions, 16 channels.
  package static func valueCodeCount(positionCount: Int, headSize: Int) -> Int {
    positionCount.roundedUp(toMultipleOf: 16) * headSize.roundedUp(toMultipleOf: 16)
  }

  /// Carries out `block`.
  ///
  /// - Precondition: The counts of all buffers fit, causal queries have their own
  ///   key, and `scratch` has `codeAttentionScratchCount(headSize:valueSize:)` elements.
  package func attend(_ block: CodeAttentionBlock, scratch: UnsafeMutableBufferPointer<Float>) {
    let head = block.head
    let (headSize, valueSize, keyCount) = (head.headSize, head.valueSize, head.keyCount)
    guard head.queryCount > 0 else { return }
    head.check(queryElementCount: block.queries.count)
    precondition(block.queryScales.count >= head.queryCount)
    precondition(
      block.keys.count >= Kernels.keyCodeCount(positionCount: keyCount, headSize: headSize))
    precondition(
      block.values.count >= Kernels.valueCodeCount(positionCount: keyCount, headSize: valueSize))
    precondition(
      min(block.keyScales.count, block.valueScales.count) >= keyCount.roundedUp(toMultipleOf: 16))
    precondition(scratch.count >= Kernels.codeAttentionScratchCount(headSize: headSize, valueSize: valueSize))
    guard let q = block.queries.baseAddress, let qScales = block.queryScales.baseAddress,
      let keys = block.keys.baseAddress, let values = block.values.baseAddress,
      let keyScales = block.keyScales.baseAddress, let valueScales = block.valueScales.baseAddress,
      let y = head.target.baseAddress, let room = scratch.baseAddress
    else { return }
    var call = ot_code_attention(
      q: q, q_stride: head.queryStride, query_count: head.queryCount, q_scales: qScales, keys: keys, values: values,
      key_scales: keyScales, value_scales: valueScales, key_count: keyCount, head_size: headSize, value_size: valueSize,
      first_position: head.firstPosition, is_causal: head.isCausal ? 1 : 0, window: head.window, scale: head.scale,
      soft_cap: head.softCap, slope: head.slope, bias: head.bias?.start, mask: head.mask?.baseAddress, y: y,
      y_stride: head.targetStride, scratch: room, sink: head.sink)
    table.pointee.code_attention(&call)
  }

  /// Puts `count` keys of one head, `stride` elements apart, into a cache of
  /// [position / 16][channel / 4][16 positions][4 channels] codes, 128 added.
  package func storeKeyCodes(
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
  package func storeValueCodes(
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
