import OTGraph
import OTKernels

extension Pass {
  /// Attention with queries, keys and values of `bits` bits, multiplied in integers.
  func attendQuantized(_ stage: AttentionStage, bits: Int) throws {
    let attention = stage.attention
    let queryWidth = attention.headCount * attention.headSize
    let keyWidth = attention.keyValueHeadCount * attention.headSize
    let valueWidth = attention.keyValueHeadCount * attention.valueSize
    try quantize(stage.queries, width: queryWidth, bits: bits, into: workspace.quantizedQueries)
    try quantize(stage.keys, width: keyWidth, bits: bits, into: workspace.quantizedKeys)
    try quantize(stage.values, width: valueWidth, bits: bits, into: workspace.quantizedValues)
    try eachKeyValueHead(of: stage) { segment, head in storeQuantized(stage, head: head, segment: segment) }
    try attendBlocks(of: stage, queries: nil)
  }

  private func quantize(
    _ value: Program.ValueID, width: Int, bits: Int, into target: Workspace.QuantizedMatrix
  ) throws {
    let source = workspace.rows(of: value)
    try eachBlock(of: 0..<batch.rowCount) { block in
      for row in block.rows {
        let x = UnsafeBufferPointer(start: source + row * width, count: width)
        let codes = UnsafeMutableBufferPointer(start: target.values.base + row * width, count: width)
        target.scales.base[row] = kernels.quantizeDynamically(x, bits: bits, into: codes).scale
      }
    }
  }

  private func storeQuantized(_ stage: AttentionStage, head: Int, segment index: Int) {
    let (headSize, valueSize) = (stage.attention.headSize, stage.attention.valueSize)
    let width = stage.attention.keyValueHeadCount * headSize
    let valueWidth = stage.attention.keyValueHeadCount * valueSize
    let segment = batch.segments[index]
    let (first, rowCount) = (segment.firstPosition, segment.rows.count)
    let stored = cache.quantizedHead(head, of: stage, sequence: segment.place)
    let from = segment.rows.lowerBound * width + head * headSize
    let valueStart = segment.rows.lowerBound * valueWidth + head * valueSize
    kernels.storeKeyCodes(
      UnsafeBufferPointer(
        start: workspace.quantizedKeys.values.base + from, count: (rowCount - 1) * width + headSize), stride: width,
      count: rowCount, headSize: headSize, firstPosition: first,
      into: UnsafeMutableBufferPointer(
        start: stored.keys, count: Kernels.keyCodeCount(positionCount: first + rowCount, headSize: headSize)))
    kernels.storeValueCodes(
      UnsafeBufferPointer(
        start: workspace.quantizedValues.values.base + valueStart, count: (rowCount - 1) * valueWidth + valueSize),
      stride: valueWidth, count: rowCount, headSize: valueSize, firstPosition: first,
      into: UnsafeMutableBufferPointer(
        start: stored.values, count: Kernels.valueCodeCount(positionCount: first + rowCount, headSize: valueSize)))
    // The scales are of all heads.
    guard head == 0 else { return }
    for (row, position) in zip(segment.rows, first...) {
      stored.keyScales[position] = workspace.quantizedKeys.scales.base[row]
      stored.valueScales[position] = valueScale(row: row, width: valueWidth)
    }
  }

  /// A row of zeros has scale 1, which would make the other values' part in the
  /// weights small.
  private func valueScale(row: Int, width: Int) -> Float {
    let scale = workspace.quantizedValues.scales.base[row]
    guard scale == 1 else { return scale }
    let codes = UnsafeBufferPointer(start: workspace.quantizedValues.values.base + row * width, count: width)
    return codes.allSatisfy { $0 == 0 } ? 0 : scale
  }

  func attendQuantized(_ stage: AttentionStage, _ part: QueryBlock, worker: Int) {
    let stored = cache.quantizedHead(part.keyValueHead, of: stage, sequence: part.sequence)
    let (count, size, valueSize) = (part.head.keyCount, part.head.headSize, part.head.valueSize)
    let scaleCount = count.roundedUp(toMultipleOf: KeyValueCache.blockSize)
    let queries = workspace.quantizedQueries
    let block = CodeAttentionBlock(
      part.head,
      queries: UnsafeBufferPointer(
        start: queries.values.base + part.queries.lowerBound, count: part.queries.count),
      queryScales: UnsafeBufferPointer(start: queries.scales.base + part.rows.lowerBound, count: part.rows.count),
      keys: UnsafeBufferPointer(
        start: stored.keys, count: Kernels.keyCodeCount(positionCount: count, headSize: size)),
      values: UnsafeBufferPointer(
        start: stored.values, count: Kernels.valueCodeCount(positionCount: count, headSize: valueSize)),
      keyScales: UnsafeBufferPointer(start: stored.keyScales, count: scaleCount),
      valueScales: UnsafeBufferPointer(start: stored.valueScales, count: scaleCount))
    kernels.attend(block, scratch: workspace.scratch[worker].attention.buffer)
  }
}
