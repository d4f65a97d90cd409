import OTFoundation
import OTGraph
import OTKernels

extension Attention {
  /// - Throws: as parameters throw.
  func lower(_ node: Node, into compiler: inout ProgramCompiler) throws {
    var inputs = node.inputs.map(compiler.valueID)
    var slopes: [Float]?
    var biases: AttentionStage.Biases?
    switch positions {
    case .none: break
    case .alibi: slopes = LinearBias.slopes(headCount: headCount)
    case .slopes(let bias) where bias.roundedFactor == nil: slopes = bias.slopes
    case .slopes: break
    case .distances(let table):
      biases = AttentionStage.Biases(table: table, values: try compiler.vector(.distances, of: node) ?? [])
    case .rotary(let rotary):
      for (input, rotary) in [rotary, rotary.ofKeys].enumerated() {
        let index = compiler.index(of: rotary)
        inputs[input] = compiler.rotated(inputs[input], by: index, headSize: headSize)
      }
    }
    let stage = AttentionStage(
      self, index: compiler.attentions.count, slopes: slopes, biases: biases,
      sinks: try compiler.vector(.sinks, of: node), queries: inputs[0], keys: inputs[1], values: inputs[2],
      to: compiler.newValue(node))
    compiler.attentions.append(stage)
    compiler.append(stage)
  }
}

/// Softmax attention of the whole batch.
final class AttentionStage: Stage {
  let attention: Attention
  /// Counts the attentions of the program.
  let index: Int
  /// ALiBi's slopes of the heads.
  let slopes: [Float]?
  /// Biases by distance.
  let biases: Biases?
  /// Scores of the heads that have no value.
  let sinks: [Float]?
  /// Queries and keys are rotated where they are to be.
  let queries, keys, values: Program.ValueID
  let to: Program.ValueID

  init(
    _ attention: Attention, index: Int, slopes: [Float]?, biases: Biases?, sinks: [Float]?,
    queries: Program.ValueID, keys: Program.ValueID, values: Program.ValueID, to: Program.ValueID
  ) {
    (self.attention, self.index, self.slopes, self.biases) = (attention, index, slopes, biases)
    self.sinks = sinks
    (self.queries, self.keys, self.values, self.to) = (queries, keys, values, to)
  }

  /// Biases of the products by distance.
  struct Biases: Sendable {
    let table: DistanceTable
    /// `[rows of the table, heads]`.
    let values: [Float]

    /// The biases of each head, one head after the other, for sequences of up to `longest` tokens: of the distances
    /// −(longest − 1) ..< longest rounded up to 16.
    func byDistance(longest: Int, headCount: Int) -> [Float] {
      let rows = (1 - longest..<longest.roundedUp(toMultipleOf: 16)).map(table.row)
      return (0..<headCount).flatMap { head in rows.map { values[$0 * headCount + head] } }
    }
  }

  /// Biases that depend on the key's position alone.
  var positionBias: LinearBias? {
    guard case .slopes(let bias) = attention.positions, bias.roundedFactor != nil else { return nil }
    return bias
  }

  var written: [Program.ValueID] { [to] }
  var read: [Program.ValueID] { [queries, keys, values] }

  /// Stores keys and values, then attends with heads and blocks of queries in parallel.
  func run(_ pass: Pass, rows: Range<Int>) throws {
    if let bits = pass.engine.attentionBits {
      try pass.attendQuantized(self, bits: bits)
    } else {
      try pass.attend(self)
    }
  }
}

extension LinearBias {
  /// The biases of each head, one head after the other, for sequences of up to `longest` tokens: of positions from 0 on,
  /// then zeros, so that there are as many behind each position.
  fileprivate func byPosition(longest: Int, headCount: Int) -> [Float] {
    let rest = longest.roundedUp(toMultipleOf: 16)
    return (0..<headCount).flatMap { head in
      (0..<longest).map { bias(head: head, position: $0) } + [Float](repeating: 0, count: rest)
    }
  }
}

extension Pass {
  /// Queries that a thread takes at a time.
  private static let queryBlockCount = 64

  fileprivate func attend(_ stage: AttentionStage) throws {
    let keys = workspace.rows(of: stage.keys)
    let values = workspace.rows(of: stage.values)
    try eachKeyValueHead(of: stage) { segment, head in
      store(stage, head: head, segment: segment, keys: keys, values: values)
    }
    try attendBlocks(of: stage, queries: workspace.rows(of: stage.queries))
  }

  /// Attends with blocks of queries of all heads, in parallel.
  ///
  /// - Parameter queries: nil: the workspace has them quantized.
  func attendBlocks(of stage: AttentionStage, queries: UnsafeMutablePointer<Float>?) throws {
    let headCount = stage.attention.headCount
    // A bias by the key's position is one by its distance of one query at a time.
    let size = stage.positionBias == nil ? Pass.queryBlockCount : 1
    let blockCount = batch.segments.reduce(0) { $0 + ($1.rows.count + size - 1) / size }
    let biases =
      stage.biases?.byDistance(longest: batch.longest, headCount: headCount)
      ?? stage.positionBias?.byPosition(longest: batch.longest, headCount: headCount)
    try (biases ?? []).withUnsafeBufferPointer {
      let loop = AttentionLoop(
        pass: self, stage: stage, blockSize: size, queries: queries, target: workspace.rows(of: stage.to),
        biases: biases == nil ? nil : $0)
      try engine.pool.run(blockCount * stage.attention.headCount, loop)
    }
  }

  /// The heads and blocks of queries of an attention.
  private struct AttentionLoop: WorkerPool.Loop {
    let pass: Pass
    let stage: AttentionStage
    /// Queries that are taken at a time.
    let blockSize: Int
    let queries: UnsafeMutablePointer<Float>?
    let target: UnsafeMutablePointer<Float>
    /// As `AttentionStage.Biases.byDistance` or `LinearBias.byPosition` gives them.
    let biases: UnsafeBufferPointer<Float>?

    func perform(_ item: Int, worker: Int) {
      let headCount = stage.attention.headCount
      let head = item % headCount
      let size = blockSize
      var block = item / headCount
      for (index, segment) in pass.batch.segments.enumerated() {
        let count = (segment.rows.count + size - 1) / size
        guard block >= count else {
          let first = segment.rows.lowerBound + block * size
          let rows = first..<min(first + size, segment.rows.upperBound)
          let position = segment.firstPosition + first - segment.rows.lowerBound
          let bias = biases.map { biases in
            let count = biases.count / headCount
            return DistanceBias(
              UnsafeBufferPointer(rebasing: biases[head * count..<(head + 1) * count]),
              zero: stage.positionBias == nil ? pass.batch.longest - 1 : position)
          }
          pass.withQueries(of: stage, head: head, segment: index, rows: rows, into: target) { part in
            var part = part
            part.head.bias = bias
            if let queries {
              pass.attend(stage, part, queries: queries, worker: worker)
            } else {
              pass.attendQuantized(stage, part, worker: worker)
            }
          }
          return
        }
        block -= count
      }
    }
  }

  /// Calls `body`, which stores keys and values, with segment and head for all heads of keys and values: of segments
  /// that share the beginning of another when that has its own, and they a copy of the beginning.
  func eachKeyValueHead(of stage: AttentionStage, _ body: (Int, Int) -> Void) throws {
    let headCount = stage.attention.keyValueHeadCount
    let count = batch.segments.count * headCount
    if batch.rowCount <= 2, !batch.sharesPrefixes {
      for item in 0..<count { body(item / headCount, item % headCount) }
      return
    }
    try engine.pool.run(count) { _, item in
      if batch.segments[item / headCount].prefix == nil { body(item / headCount, item % headCount) }
    }
    guard batch.sharesPrefixes else { return }
    try engine.pool.run(count) { _, item in
      let (index, head) = (item / headCount, item % headCount)
      let segment = batch.segments[index]
      guard let prefix = segment.prefix else { return }
      cache.copy(
        positionCount: segment.firstPosition, head: head, of: stage, from: batch.segments[prefix].place,
        to: segment.place)
      body(index, head)
    }
  }

  /// Queries of one head in some rows of a segment.
  struct QueryBlock {
    var head: HeadAttention
    /// The place of their sequence in the cache.
    let sequence: Int
    let rows: Range<Int>
    /// The head of keys and values that they see.
    let keyValueHead: Int
    /// Their elements among those of the batch's queries.
    let queries: Range<Int>
  }

  private func withQueries(
    of stage: AttentionStage, head: Int, segment index: Int, rows: Range<Int>,
    into target: UnsafeMutablePointer<Float>, _ body: (QueryBlock) -> Void
  ) {
    let attention = stage.attention
    let segment = batch.segments[index]
    let (size, valueSize) = (attention.headSize, attention.valueSize)
    let (width, resultWidth) = (attention.headCount * size, attention.headCount * valueSize)
    let results = UnsafeMutableBufferPointer(
      start: target + rows.lowerBound * resultWidth + head * valueSize,
      count: (rows.count - 1) * resultWidth + valueSize)
    var part = QueryBlock(
      head: HeadAttention(
        headSize: size, valueSize: valueSize, queryCount: rows.count, queryStride: width,
        firstPosition: segment.firstPosition + rows.lowerBound - segment.rows.lowerBound,
        keyCount: segment.firstPosition + segment.rows.count, isCausal: attention.isCausal, scale: attention.scale,
        target: results, targetStride: resultWidth),
      sequence: segment.place, rows: rows, keyValueHead: head / (attention.headCount / attention.keyValueHeadCount),
      queries: rows.lowerBound * width + head * size..<rows.upperBound * width - width + (head + 1) * size)
    part.head.window = attention.window ?? 0
    part.head.softCap = attention.softCap ?? 0
    part.head.slope = stage.slopes?[head] ?? 0
    (stage.sinks ?? []).withUnsafeBufferPointer { sinks in
      part.head.sink = sinks.baseAddress.flatMap { sinks.isEmpty ? nil : $0 + head }
      guard let mask = batch.mask else { return body(part) }
      mask.withUnsafeBufferPointer {
        part.head.mask = UnsafeBufferPointer(rebasing: $0[segment.rows])
        body(part)
      }
    }
  }

  private func attend(
    _ stage: AttentionStage, _ part: QueryBlock, queries: UnsafeMutablePointer<Float>, worker: Int
  ) {
    let stored = cache.head(part.keyValueHead, of: stage, sequence: part.sequence)
    let (count, size, valueSize) = (part.head.keyCount, part.head.headSize, part.head.valueSize)
    let block = AttentionBlock(
      part.head,
      queries: UnsafeBufferPointer(start: queries + part.queries.lowerBound, count: part.queries.count),
      keys: UnsafeBufferPointer(
        start: stored.keys, count: Kernels.keyCacheCount(positionCount: count, headSize: size)),
      values: UnsafeBufferPointer(start: stored.values, count: count * valueSize), valueStride: valueSize)
    kernels.attend(block, scratch: workspace.scratch[worker].attention.buffer)
  }

  private func store(
    _ stage: AttentionStage, head: Int, segment index: Int, keys: UnsafeMutablePointer<Float>,
    values: UnsafeMutablePointer<Float>
  ) {
    let (headSize, valueSize) = (stage.attention.headSize, stage.attention.valueSize)
    let width = stage.attention.keyValueHeadCount * headSize
    let valueWidth = stage.attention.keyValueHeadCount * valueSize
    let segment = batch.segments[index]
    let stored = cache.head(head, of: stage, sequence: segment.place)
    let from = segment.rows.lowerBound * width + head * headSize
    let count = segment.firstPosition + segment.rows.count
    kernels.storeKeys(
      UnsafeBufferPointer(start: keys + from, count: (segment.rows.count - 1) * width + headSize), stride: width,
      count: segment.rows.count, headSize: headSize, firstPosition: segment.firstPosition,
      into: UnsafeMutableBufferPointer(
        start: stored.keys, count: Kernels.keyCacheCount(positionCount: count, headSize: headSize)))
    for row in 0..<segment.rows.count {
      (stored.values + (segment.firstPosition + row) * valueSize).update(
        from: values + (segment.rows.lowerBound + row) * valueWidth + head * valueSize, count: valueSize)
    }
  }
}
