import OTFoundation
import OTGraph
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

  func run(_ stage: Program.Stage, rows: Range<Int>) throws {
    switch stage {
    case .copyGiven(let node, let to): try copyGiven(node, to: to)
    case .lookUp(let lookup): try run(lookup, rows: rows)
    case .rows(let steps): try run(steps, rows: rows)
    case .products(let products): try run(products, rows: rows)
    case .mix(let mixing): try run(mixing)
    case .firstRows(let from, let to):
      let width = program.values[to].channelCount
      for (index, segment) in batch.segments.enumerated() {
        (workspace.rows(of: to) + index * width).update(
          from: workspace.rows(of: from) + segment.rows.lowerBound * width, count: width)
      }
    }
  }

  // MARK: Given values

  private func copyGiven(_ node: String, to value: Program.ValueID) throws {
    let width = program.values[value].channelCount
    let matrices = given[node, default: []]
    let counts = program.regions[value] == .sequences ? batch.segments.map { _ in 1 } : batch.segments.map(\.rows.count)
    guard matrices.map(\.rowCount) == counts, matrices.allSatisfy({ $0.channelCount == width }) else {
      throw Refusal("run-given", "the values given for '\(node)' do not have \(width) channels and a row per token")
    }
    var row = 0
    for matrix in matrices {
      matrix.values.withUnsafeBufferPointer { values in
        guard let source = values.baseAddress else { return }
        (workspace.rows(of: value) + row * width).update(from: source, count: values.count)
      }
      row += matrix.rowCount
    }
  }

  // MARK: Embeddings

  private func run(_ lookup: Program.Lookup, rows: Range<Int>) throws {
    let ids: [Int]
    switch lookup.ids {
    case .tokens: ids = batch.tokenIDs
    case .positions: ids = batch.positions
    case .types: ids = batch.tokenTypeIDs
    }
    let embedding = lookup.embedding
    let known = 0..<embedding.rowCount - embedding.rowOffset
    let to = workspace.rows(of: lookup.to)
    try eachBlock(of: rows) { block in
      for row in block.rows {
        guard known.contains(ids[row]) else {
          throw Refusal(
            "run-token-id",
            "token \(row) has the ID \(ids[row]), '\(lookup.use.node)' has 0...\(known.upperBound - 1)")
        }
        try engine.parameters.read(
          lookup.use, rows: ids[row] + embedding.rowOffset..<ids[row] + embedding.rowOffset + 1,
          into: UnsafeMutableBufferPointer(start: to + row * embedding.size, count: embedding.size))
      }
    }
  }

  // MARK: Rows

  /// Calls `body` for blocks of `rows` on all threads; a few rows are done by the caller.
  func eachBlock(of rows: Range<Int>, _ body: (RowBlock) throws -> Void) throws {
    guard rows.count > 2 else { return try body(RowBlock(rows: rows, worker: 0)) }
    let blockRowCount = min(
      Program.chainRowCount, (rows.count + engine.pool.threadCount - 1) / engine.pool.threadCount)
    try engine.pool.run((rows.count + blockRowCount - 1) / blockRowCount) { worker, block in
      let start = rows.lowerBound + block * blockRowCount
      try body(RowBlock(rows: start..<min(start + blockRowCount, rows.upperBound), worker: worker))
    }
  }

  private func run(_ steps: [Program.RowStep], rows: Range<Int>) throws {
    try eachBlock(of: rows) { block in
      for step in steps { run(step, block) }
    }
  }

  private func run(_ step: Program.RowStep, _ block: RowBlock) {
    switch step {
    case .layerNorm(let norm, let gamma, let beta, let from, let to):
      withBuffers(gamma, beta) { gamma, beta in
        eachGroup(of: norm.normalizedSize, block, from, to) { x, y in
          kernels.layerNormalize(x, epsilon: norm.epsilon, gamma: gamma, beta: beta, into: y)
        }
      }
    case .rmsNorm(let norm, let gamma, let beta, let from, let to):
      withBuffers(gamma, beta) { gamma, beta in
        eachGroup(of: norm.normalizedSize, block, from, to) { x, y in
          kernels.rmsNormalize(x, epsilon: norm.epsilon, gamma: gamma, beta: beta, into: y)
        }
      }
    case .activate(let kind, let from, let to):
      let function = Kernels.Activation(kind)
      each(block, from, to) { x, y in kernels.activate(function, x, into: y) }
    case .add(let a, let b, let to):
      let other = workspace.rows(of: b, in: block)
      let width = program.values[to].channelCount
      eachRow(block, a, to) { row, x, y in
        kernels.add(x, UnsafeBufferPointer(start: other + row * width, count: width), into: y)
      }
    case .multiply(let a, let b, let to):
      let other = workspace.rows(of: b, in: block)
      let width = program.values[to].channelCount
      eachRow(block, a, to) { row, x, y in
        kernels.multiply(x, UnsafeBufferPointer(start: other + row * width, count: width), into: y)
      }
    case .affine(let shift, let scale, let from, let to):
      withBuffers(shift, scale) { shift, scale in
        each(block, from, to) { x, y in kernels.transform(x, shift: shift, scale: scale, into: y) }
      }
    case .slice(let slice, let from, let to):
      each(block, from, to) { x, y in
        for start in stride(from: 0, to: y.count, by: slice.blockSize) {
          guard let source = x.baseAddress, let target = y.baseAddress else { return }
          (target + start).update(from: source + slice.inputChannel(of: start), count: slice.blockSize)
        }
      }
    case .rotate(let rotary, let headSize, let from, let to):
      let table = workspace.rotaryTables[rotary]
      eachRow(block, from, to) { row, x, y in
        _ = y.update(fromContentsOf: x)
        let angles = batch.positions[row] * table.pairCount..<(batch.positions[row] + 1) * table.pairCount
        table.cosines.withUnsafeBufferPointer { cosines in
          table.sines.withUnsafeBufferPointer { sines in
            kernels.rotate(
              y, headSize: headSize, cosines: UnsafeBufferPointer(rebasing: cosines[angles]),
              sines: UnsafeBufferPointer(rebasing: sines[angles]))
          }
        }
      }
    case .quantize(let id): quantize(id, block)
    }
  }

  private func each(
    _ block: RowBlock, _ from: Program.ValueID, _ to: Program.ValueID,
    _ body: (UnsafeBufferPointer<Float>, UnsafeMutableBufferPointer<Float>) -> Void
  ) {
    eachRow(block, from, to) { _, x, y in body(x, y) }
  }

  /// Calls `body` with each `size` channels of each row.
  private func eachGroup(
    of size: Int, _ block: RowBlock, _ from: Program.ValueID, _ to: Program.ValueID,
    _ body: (UnsafeBufferPointer<Float>, UnsafeMutableBufferPointer<Float>) -> Void
  ) {
    eachRow(block, from, to) { _, x, y in
      for start in stride(from: 0, to: y.count, by: size) {
        let group = start..<start + size
        body(UnsafeBufferPointer(rebasing: x[group]), UnsafeMutableBufferPointer(rebasing: y[group]))
      }
    }
  }

  private func eachRow(
    _ block: RowBlock, _ from: Program.ValueID, _ to: Program.ValueID,
    _ body: (Int, UnsafeBufferPointer<Float>, UnsafeMutableBufferPointer<Float>) -> Void
  ) {
    let (fromWidth, toWidth) = (program.values[from].channelCount, program.values[to].channelCount)
    let (source, target) = (workspace.rows(of: from, in: block), workspace.rows(of: to, in: block))
    for row in block.rows {
      body(
        row, UnsafeBufferPointer(start: source + row * fromWidth, count: fromWidth),
        UnsafeMutableBufferPointer(start: target + row * toWidth, count: toWidth))
    }
  }

  private func quantize(_ id: Program.CodesID, _ block: RowBlock) {
    let codes = program.codes[id]
    let place = workspace.codes(id)
    let width = codes.channelCount
    let source = workspace.rows(of: codes.value, in: block)
    for row in block.rows {
      let x = UnsafeBufferPointer(start: source + row * width, count: width)
      let q = place.codes(row: row)
      let target = UnsafeMutableBufferPointer(start: q, count: place.digitCount * place.stride)
      // Sums of the whole row; a partition into one run needs no more.
      var sums: (Int32, Int32, Int32) = (0, 0, 0)
      switch codes.form {
      case .static(let bits):
        sums.0 = kernels.quantizeStatically(x, bits: bits, into: target).sum
      case .dynamic(let bits):
        let result = kernels.quantizeDynamically(x, bits: bits, into: target)
        place.scale(row: row).pointee = result.scale
        sums.0 = result.sum
      case .digits:
        place.scale(row: row).pointee = withUnsafeMutableBytes(of: &sums) {
          kernels.splitDigits(x, into: target, stride: place.stride, sums: $0.assumingMemoryBound(to: Int32.self))
        }
      }
      var run = 0
      for partition in codes.partitions {
        for columns in partition {
          let target = place.sums(row: row, run: run)
          run += 1
          if partition.count == 1 {
            target[0] = sums.0
            if place.digitCount == 3 { (target[1], target[2]) = (sums.1, sums.2) }
          } else {
            for digit in 0..<place.digitCount {
              target[digit] = kernels.sum(
                UnsafeBufferPointer(start: q + digit * place.stride + columns.lowerBound, count: columns.count))
            }
          }
        }
      }
    }
  }
}

extension Kernels.Activation {
  init(_ kind: ActivationKind) {
    switch kind {
    case .relu: self = .relu
    case .gelu: self = .gelu
    case .geluTanh: self = .geluTanh
    case .silu: self = .silu
    case .tanh: self = .tanh
    }
  }
}

/// Calls `body` with the memory of arrays that may be absent.
private func withBuffers(
  _ a: [Float]?, _ b: [Float]?, _ body: (UnsafeBufferPointer<Float>?, UnsafeBufferPointer<Float>?) -> Void
) {
  (a ?? []).withUnsafeBufferPointer { first in
    (b ?? []).withUnsafeBufferPointer { second in body(a == nil ? nil : first, b == nil ? nil : second) }
  }
}
