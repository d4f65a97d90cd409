import OTFoundation
import OTGraph
import OTKernels

extension Pass {
  /// Queries that a thread mixes at a time.
  private static let queryBlockCount = 64

  /// Softmax attention of every sequence of the batch: stores keys and values,
  /// and mixes heads and blocks of queries in parallel.
  func run(_ mixing: Program.Mixing) throws {
    if let bits = engine.attentionBits { return try mixCodes(mixing, bits: bits) }
    let keys = workspace.rows(of: mixing.keys)
    let values = workspace.rows(of: mixing.values)
    try eachKeyValueHead(of: mixing.attention) { segment, head in
      store(mixing, head: head, segment: segment, keys: keys, values: values)
    }
    try mixBlocks(of: mixing, queries: workspace.rows(of: mixing.queries))
  }

  /// Mixes blocks of queries of all heads, in parallel.
  ///
  /// - Parameter queries: nil: the workspace has their codes.
  func mixBlocks(of mixing: Program.Mixing, queries: UnsafeMutablePointer<Float>?) throws {
    let size = Pass.queryBlockCount
    let blockCount = batch.segments.reduce(0) { $0 + ($1.rows.count + size - 1) / size }
    let loop = MixLoop(pass: self, mixing: mixing, queries: queries, target: workspace.rows(of: mixing.to))
    try engine.pool.run(blockCount * mixing.attention.headCount, loop)
  }

  /// The heads and blocks of queries of an attention.
  private struct MixLoop: WorkerPool.Loop {
    let pass: Pass
    let mixing: Program.Mixing
    let queries: UnsafeMutablePointer<Float>?
    let target: UnsafeMutablePointer<Float>

    func perform(_ item: Int, worker: Int) {
      let headCount = mixing.attention.headCount
      let head = item % headCount
      let size = Pass.queryBlockCount
      var block = item / headCount
      for (index, segment) in pass.batch.segments.enumerated() {
        let count = (segment.rows.count + size - 1) / size
        guard block >= count else {
          let first = segment.rows.lowerBound + block * size
          let rows = first..<min(first + size, segment.rows.upperBound)
          pass.withQueries(of: mixing, head: head, segment: index, rows: rows, into: target) { part in
            if let queries {
              pass.mix(mixing, part, queries: queries, worker: worker)
            } else {
              pass.mixCodes(mixing, part, worker: worker)
            }
          }
          return
        }
        block -= count
      }
    }
  }

  /// Calls `body` with segment and head for all heads of keys and values.
  func eachKeyValueHead(of attention: Attention, _ body: (Int, Int) -> Void) throws {
    let headCount = attention.keyValueHeadCount
    let count = batch.segments.count * headCount
    if batch.rowCount <= 2 {
      for item in 0..<count { body(item / headCount, item % headCount) }
    } else {
      try engine.pool.run(count) { _, item in body(item / headCount, item % headCount) }
    }
  }

  /// Queries of one head in some rows of a segment.
  struct QueryBlock {
    var head: HeadAttention
    let segment: Int
    let rows: Range<Int>
    /// The head of keys and values that they see.
    let keyValueHead: Int
    /// The index of the first among the queries of the batch.
    let place: Int
  }

  private func withQueries(
    of mixing: Program.Mixing, head: Int, segment index: Int, rows: Range<Int>,
    into target: UnsafeMutablePointer<Float>, _ body: (QueryBlock) -> Void
  ) {
    let attention = mixing.attention
    let segment = batch.segments[index]
    let size = attention.headSize
    let width = attention.headCount * size
    let place = rows.lowerBound * width + head * size
    let results = UnsafeMutableBufferPointer(start: target + place, count: (rows.count - 1) * width + size)
    var part = QueryBlock(
      head: HeadAttention(
        headSize: size, queryCount: rows.count, queryStride: width,
        firstPosition: segment.firstPosition + rows.lowerBound - segment.rows.lowerBound,
        keyCount: segment.firstPosition + segment.rows.count, isCausal: attention.isCausal, scale: attention.scale,
        target: results, targetStride: width),
      segment: index, rows: rows, keyValueHead: head / (attention.headCount / attention.keyValueHeadCount),
      place: place)
    part.head.slope = mixing.slopes?[head] ?? 0
    guard let mask = batch.mask else { return body(part) }
    mask.withUnsafeBufferPointer {
      part.head.mask = UnsafeBufferPointer(rebasing: $0[segment.rows])
      body(part)
    }
  }

  private func mix(
    _ mixing: Program.Mixing, _ part: QueryBlock, queries: UnsafeMutablePointer<Float>, worker: Int
  ) {
    let stored = cache.head(part.keyValueHead, of: mixing, segment: part.segment)
    let (count, size) = (part.head.keyCount, part.head.headSize)
    let block = AttentionBlock(
      part.head, queries: UnsafeBufferPointer(start: queries + part.place, count: part.head.target.count),
      keys: UnsafeBufferPointer(
        start: stored.keys, count: Kernels.keyCacheCount(positionCount: count, headSize: size)),
      values: UnsafeBufferPointer(start: stored.values, count: count * size), valueStride: size)
    kernels.attend(block, scratch: workspace.scratch[worker].attention.buffer)
  }

  private func store(
    _ mixing: Program.Mixing, head: Int, segment index: Int, keys: UnsafeMutablePointer<Float>,
    values: UnsafeMutablePointer<Float>
  ) {
    let headSize = mixing.attention.headSize
    let width = mixing.attention.keyValueHeadCount * headSize
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
}
