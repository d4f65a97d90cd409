import OTKernels

/// One batch on its way through the stages.
struct Pass {
  let engine: Engine
  let workspace: Workspace
  let batch: Batch
  /// Values that are not computed: node → a matrix for each sequence.
  let given: [String: [Matrix]]
  let cache: KeyValueCache

  var program: Program { workspace.program }
  var kernels: Kernels { engine.kernels }

  /// Calls `body` for blocks of `rows` on all threads; a few rows are done by the caller.
  func eachBlock(of rows: Range<Int>, _ body: (RowBlock) throws -> Void) throws {
    let origin = rows.lowerBound
    guard rows.count > 2 else { return try body(RowBlock(rows: rows, worker: 0, origin: origin)) }
    let blockRowCount = min(
      Program.chainRowCount, (rows.count + engine.pool.threadCount - 1) / engine.pool.threadCount)
    try engine.pool.run((rows.count + blockRowCount - 1) / blockRowCount) { worker, block in
      let start = rows.lowerBound + block * blockRowCount
      try body(
        RowBlock(rows: start..<min(start + blockRowCount, rows.upperBound), worker: worker, origin: origin))
    }
  }

  /// Calls `body` with each row of two values.
  func eachRow(
    _ block: RowBlock, _ from: Program.ValueID, _ to: Program.ValueID,
    _ body: (_ row: Int, _ x: UnsafeBufferPointer<Float>, _ y: UnsafeMutableBufferPointer<Float>) -> Void
  ) {
    let (fromWidth, toWidth) = (program.values[from].channelCount, program.values[to].channelCount)
    let (source, target) = (workspace.rows(of: from, in: block), workspace.rows(of: to, in: block))
    for row in block.rows {
      body(
        row, UnsafeBufferPointer(start: source + row * fromWidth, count: fromWidth),
        UnsafeMutableBufferPointer(start: target + row * toWidth, count: toWidth))
    }
  }

  /// Calls `body` with each row of three values that are equally wide.
  func eachRow(
    _ block: RowBlock, _ first: Program.ValueID, _ second: Program.ValueID, _ to: Program.ValueID,
    _ body: (UnsafeBufferPointer<Float>, UnsafeBufferPointer<Float>, UnsafeMutableBufferPointer<Float>) -> Void
  ) {
    let other = workspace.rows(of: second, in: block)
    eachRow(block, first, to) { row, x, z in
      body(x, UnsafeBufferPointer(start: other + row * z.count, count: z.count), z)
    }
  }
}

/// Calls `body` with the memory of arrays that may be absent.
func withBuffers(
  _ a: [Float]?, _ b: [Float]?, _ body: (UnsafeBufferPointer<Float>?, UnsafeBufferPointer<Float>?) -> Void
) {
  (a ?? []).withUnsafeBufferPointer { first in
    (b ?? []).withUnsafeBufferPointer { second in body(a == nil ? nil : first, b == nil ? nil : second) }
  }
}
