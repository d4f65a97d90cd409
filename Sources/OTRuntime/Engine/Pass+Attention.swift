import OTGraph
import OTKernels
import OTTensor

extension Pass {
  /// Queries that a thread mixes at a time.
  private static let queryBlockCount = 64

  /// Softmax attention of every sequence of the batch: rotates queries and
  /// keys, stores keys and values, and mixes heads and blocks of queries in parallel.
  func run(_ mixing: Program.Mixing) throws {
    let attention = mixing.attention
    let queryWidth = attention.headCount * attention.headSize
    let keyWidth = attention.keyValueHeadCount * attention.headSize
    let queries = try mixed(
      mixing.queries, width: queryWidth, rotary: mixing.rotary, attention, into: workspace.mixedQueries)
    let keys = try mixed(
      mixing.keys, width: keyWidth, rotary: mixing.rotary, attention, into: workspace.mixedKeys)
    let values = try mixed(mixing.values, width: keyWidth, rotary: nil, attention, into: workspace.mixedValues)
    try store(mixing, keys: keys, values: values, width: keyWidth)

    let target = workspace.rows(of: mixing.to)
    let headCount = attention.headCount
    let size = Pass.queryBlockCount
    let blockCount = batch.segments.reduce(0) { $0 + ($1.rows.count + size - 1) / size }
    try engine.pool.run(
      blockCount * headCount, MixLoop(pass: self, mixing: mixing, queries: queries, target: target))
  }

  /// The heads and blocks of queries of an attention.
  private struct MixLoop: WorkerPool.Loop {
    let pass: Pass
    let mixing: Program.Mixing
    let queries, target: UnsafeMutablePointer<Float>

    func perform(_ item: Int, worker: Int) {
      let headCount = mixing.attention.headCount
      let size = Pass.queryBlockCount
      var block = item / headCount
      for (index, segment) in pass.batch.segments.enumerated() {
        let count = (segment.rows.count + size - 1) / size
        guard block >= count else {
          let first = segment.rows.lowerBound + block * size
          let rows = first..<min(first + size, segment.rows.upperBound)
          pass.mix(
            mixing, head: item % headCount, segment: index, rows: rows, queries: queries, into: target, worker: worker)
          return
        }
        block -= count
      }
    }
  }

  private func mix(
    _ mixing: Program.Mixing, head: Int, segment index: Int, rows: Range<Int>,
    queries: UnsafeMutablePointer<Float>, into target: UnsafeMutablePointer<Float>, worker: Int
  ) {
    let attention = mixing.attention
    let segment = batch.segments[index]
    let width = attention.headCount * attention.headSize
    let stored = cache.head(
      head / (attention.headCount / attention.keyValueHeadCount), of: mixing, segment: index)
    let firstPosition = segment.firstPosition + rows.lowerBound - segment.rows.lowerBound
    let place = rows.lowerBound * width + head * attention.headSize
    let count = segment.firstPosition + segment.rows.count
    let size = attention.headSize
    let extent = (rows.count - 1) * width + size
    var block = AttentionBlock(
      queries: UnsafeBufferPointer(start: queries + place, count: extent), queryStride: width, queryCount: rows.count,
      keys: UnsafeBufferPointer(
        start: stored.keys, count: Kernels.keyCacheCount(positionCount: count, headSize: size)),
      values: UnsafeBufferPointer(start: stored.values, count: count * size), valueStride: size, keyCount: count,
      headSize: size, firstPosition: firstPosition, isCausal: attention.isCausal, scale: attention.scale,
      target: UnsafeMutableBufferPointer(start: target + place, count: extent), targetStride: width)
    block.slope = mixing.slopes?[head] ?? 0
    let scratch = workspace.scratch[worker].attention.buffer
    guard let mask = batch.mask else { return kernels.attend(block, scratch: scratch) }
    mask.withUnsafeBufferPointer { mask in
      block.mask = UnsafeBufferPointer(rebasing: mask[segment.rows])
      kernels.attend(block, scratch: scratch)
    }
  }

  /// The value as it is mixed: rotated, and rounded where queries, keys and
  /// values are quantized; in place where neither is asked for.
  private func mixed(
    _ value: Program.ValueID, width: Int, rotary: Int?, _ attention: Attention,
    into memory: AlignedMemory<Float>
  ) throws -> UnsafeMutablePointer<Float> {
    let source = workspace.rows(of: value)
    guard rotary != nil || engine.attentionBits != nil else { return source }
    let target = memory.base
    try eachBlock(of: 0..<batch.rowCount) { rows in
      for row in rows {
        let x = UnsafeMutableBufferPointer(start: target + row * width, count: width)
        (target + row * width).update(from: source + row * width, count: width)
        if let rotary {
          let table = workspace.rotaryTables[rotary]
          let start = batch.positions[row] * table.pairCount
          table.cosines.withUnsafeBufferPointer { cosines in
            table.sines.withUnsafeBufferPointer { sines in
              kernels.rotate(
                x, headSize: attention.headSize,
                cosines: UnsafeBufferPointer(rebasing: cosines[start..<start + table.pairCount]),
                sines: UnsafeBufferPointer(rebasing: sines[start..<start + table.pairCount]))
            }
          }
        }
        if let bits = engine.attentionBits { round(x, bits: bits) }
      }
    }
    return target
  }

  /// Rounds a row to integers of `bits` bits times one scale.
  private func round(_ row: UnsafeMutableBufferPointer<Float>, bits: Int) {
    withUnsafeTemporaryAllocation(of: Int8.self, capacity: row.count) { codes in
      let scale = kernels.quantizeDynamically(UnsafeBufferPointer(row), bits: bits, into: codes).scale
      for index in row.indices { row[index] = scale * Float(codes[index]) }
    }
  }

  private func store(
    _ mixing: Program.Mixing, keys: UnsafeMutablePointer<Float>, values: UnsafeMutablePointer<Float>, width: Int
  ) throws {
    let attention = mixing.attention
    let headSize = attention.headSize
    let headCount = attention.keyValueHeadCount
    func store(_ item: Int) {
      let (index, head) = (item / headCount, item % headCount)
      let segment = batch.segments[index]
      let stored = cache.head(head, of: mixing, segment: index)
      let from = segment.rows.lowerBound * width + head * headSize
      let count = segment.firstPosition + segment.rows.count
      kernels.storeKeys(
        UnsafeBufferPointer(start: keys + from, count: (segment.rows.count - 1) * width + headSize), stride: width,
        count: segment.rows.count, headSize: headSize, firstPosition: segment.firstPosition,
        into: UnsafeMutableBufferPointer(
          start: stored.keys, count: Kernels.keyCacheCount(positionCount: count, headSize: headSize)))
      for row in 0..<segment.rows.count {
        (stored.values + (segment.firstPosition + row) * headSize).update(
          from: values + from + row * width, count: headSize)
      }
    }
    let count = batch.segments.count * headCount
    if batch.rowCount <= 2 {
      for item in 0..<count { store(item) }
    } else {
      try engine.pool.run(count) { _, item in store(item) }
    }
  }
}
