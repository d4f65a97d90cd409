import OTGraph
import OTKernels
import OTTensor
import Synchronization

/// Runs programs: what the executors and sessions share.
///
/// Executors differ in which weights are multiplied in integers alone; all
/// else is float32. Results do not depend on the number of threads, nor does a
/// row's result on how the rows are divided into batches, but for float
/// products, whose sums the BLAS orders by the size of the whole.
final class Engine: Sendable {
  let graph: Graph
  let kernels: Kernels
  let pool: WorkerPool
  let parameters: any ParameterSource
  /// Bits of queries, keys and values, one scale per token: attention multiplies integers.
  /// nil: it is float.
  let attentionBits: Int?
  /// For speed.
  let fused: Program
  /// For observers: every node has a value. Made when it is first asked for.
  private let plain = Mutex<Program?>(nil)
  private let packed: [String: PackedMatrix]

  /// - Parameter packed: the weights that are multiplied in integers, by the name of their linear.
  /// - Throws: as `ProgramCompiler.program`.
  init(
    graph: Graph, parameters: any ParameterSource, packed: [String: PackedMatrix], threadCount: Int,
    kernels: Kernels, attentionBits: Int? = nil
  ) throws {
    self.graph = graph
    self.parameters = parameters
    self.kernels = kernels
    self.attentionBits = attentionBits
    self.packed = packed
    fused = try ProgramCompiler.program(of: graph, parameters: parameters, packed: packed, fuses: true)
    pool = WorkerPool(threadCount: threadCount)
  }

  /// The program in which every node has a value.
  ///
  /// - Throws: as `ProgramCompiler.program`.
  private func observable() throws -> Program {
    try plain.withLock { plain in
      if let plain { return plain }
      let program = try ProgramCompiler.program(of: graph, parameters: parameters, packed: packed, fuses: false)
      plain = program
      return program
    }
  }

  /// Bytes that a token takes in the buffers, with an observer. (Reading parameters for it
  /// cannot fail where it has not failed before; if it does, the run itself says so.)
  var bytesPerToken: Int {
    (try? observable().bytesPerToken) ?? fused.bytesPerToken * 2
  }

  /// What keys and values are kept as.
  var cacheForm: KeyValueCache.Form { attentionBits == nil ? .floats : .codes }

  /// Which rows the tail is run for.
  enum TailRows {
    case none
    case last
    /// All, so many at a time.
    case all(blockSize: Int)
  }

  /// Runs a program on the rows of `batch`.
  ///
  /// - Parameter finished: called when the tail has been run for a range of
  ///   rows, whose outputs then are in the workspace.
  /// - Throws: `Refusal` of a parameter or an ID out of range, and what the closures throw.
  func run(
    _ batch: Batch, in workspace: Workspace, cache: KeyValueCache, tail: TailRows,
    observe: Executor.Observer? = nil, finished: (Range<Int>) throws -> Void
  ) throws {
    let program = workspace.program
    precondition(batch.rowCount <= workspace.rowCapacity && batch.segments.count <= workspace.sequenceCapacity)
    let longest = batch.longest
    for index in workspace.rotaryTables.indices { workspace.rotaryTables[index].extend(to: longest) }
    let pass = Pass(engine: self, workspace: workspace, batch: batch, cache: cache)
    for placed in program.stages where placed.region != .tail {
      let rows = placed.region == .sequences ? 0..<batch.segments.count : 0..<batch.rowCount
      try pass.run(placed.stage, rows: rows)
      try show(placed, rows, workspace, observe)
    }
    let first: Int
    let blockSize: Int
    switch tail {
    case .none: return
    case .last: (first, blockSize) = (batch.rowCount - 1, 1)
    case .all(let size): (first, blockSize) = (0, size)
    }
    for start in stride(from: first, to: batch.rowCount, by: blockSize) {
      let rows = start..<min(start + blockSize, batch.rowCount)
      workspace.tailOrigin = start
      for placed in program.stages where placed.region == .tail {
        try pass.run(placed.stage, rows: rows)
        try show(placed, rows, workspace, observe)
      }
      try finished(rows)
    }
  }

  private func show(
    _ placed: Program.PlacedStage, _ rows: Range<Int>, _ workspace: Workspace, _ observe: Executor.Observer?
  ) throws {
    guard let observe else { return }
    for value in placed.shown {
      let place = workspace.program.values[value]
      let base = workspace.rows(of: value) + rows.lowerBound * place.channelCount
      try observe(
        place.node, UnsafeBufferPointer(start: base, count: rows.count * place.channelCount), rows.count,
        place.channelCount)
    }
  }

  /// Memory that the outputs of a block of rows of the tail may take.
  private static let tailByteCount = 32 << 20

  /// Rows of the tail that are done at a time.
  func tailBlockSize(of program: Program) -> Int {
    let widest = zip(program.values, program.regions).reduce(1) { max($0, $1.1 == .tail ? $1.0.channelCount : 0) }
    return max(16, Engine.tailByteCount / 4 / widest / 16 * 16)
  }

  /// Runs whole sequences.
  ///
  /// - Throws: as `Executor.run`.
  func run(_ sequences: [TokenSequence], observe: Executor.Observer?) throws -> [ExecutionResult] {
    let batch = try Batch(sequences, graph: graph)
    guard batch.rowCount > 0 else { return [] }
    let program = observe == nil ? fused : try observable()
    let blockSize = observe == nil ? min(batch.rowCount, tailBlockSize(of: program)) : batch.rowCount
    let workspace = try Workspace(
      program, rowCapacity: batch.rowCount, tailCapacity: blockSize, sequenceCapacity: batch.segments.count,
      threadCount: pool.threadCount, attention: cacheForm)
    var outputs: [String: [Float]] = [:]
    for (name, value) in program.outputs where program.regions[value] == .tail {
      outputs[name] = []
      outputs[name]?.reserveCapacity(batch.rowCount * program.values[value].channelCount)
    }
    func append(_ value: Program.ValueID, _ rows: Range<Int>, to name: String) {
      let width = program.values[value].channelCount
      let base = workspace.rows(of: value) + rows.lowerBound * width
      outputs[name, default: []].append(contentsOf: UnsafeBufferPointer(start: base, count: rows.count * width))
    }
    try run(
      batch, in: workspace, cache: try KeyValueCache(program.mixings, form: cacheForm, batch: batch),
      tail: .all(blockSize: blockSize), observe: observe
    ) { rows in
      for (name, value) in program.outputs where program.regions[value] == .tail { append(value, rows, to: name) }
    }
    for (name, value) in program.outputs where program.regions[value] != .tail {
      let isSequences = program.regions[value] == .sequences
      append(value, 0..<(isSequences ? batch.segments.count : batch.rowCount), to: name)
    }
    return batch.segments.enumerated().map { index, segment in
      ExecutionResult(
        outputs: Dictionary(
          uniqueKeysWithValues: program.outputs.map { name, value in
            let width = program.values[value].channelCount
            let rows = program.regions[value] == .sequences ? index..<index + 1 : segment.rows
            let all = outputs[name, default: []]
            return (
              name,
              Matrix(
                rowCount: rows.count, channelCount: width,
                values: rows.count * width == all.count
                  ? all : Array(all[rows.lowerBound * width..<rows.upperBound * width]))
            )
          }))
    }
  }
}

/// One batch on its way through the stages.
struct Pass {
  let engine: Engine
  let workspace: Workspace
  let batch: Batch
  let cache: KeyValueCache

  var program: Program { workspace.program }
  var kernels: Kernels { engine.kernels }

  func run(_ stage: Program.Stage, rows: Range<Int>) throws {
    switch stage {
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
      for row in block {
        guard known.contains(ids[row]) else {
          throw Refusal(
            "run-token-id",
            "token \(row) has the ID \(ids[row]), '\(program.values[lookup.to].node)' has 0...\(known.upperBound - 1)")
        }
        try engine.parameters.read(
          lookup.use, row: ids[row] + embedding.rowOffset,
          into: UnsafeMutableBufferPointer(start: to + row * embedding.size, count: embedding.size))
      }
    }
  }

  // MARK: Rows

  /// Rows that go through a chain of steps together, and stay in cache meanwhile.
  private static let chainRowCount = 8

  /// Calls `body` for blocks of `rows` on all threads; a few rows are done by the caller.
  func eachBlock(of rows: Range<Int>, _ body: (Range<Int>) throws -> Void) throws {
    let size = Pass.chainRowCount
    guard rows.count > 2 else { return try body(rows) }
    let blockRowCount = min(size, (rows.count + engine.pool.threadCount - 1) / engine.pool.threadCount)
    try engine.pool.run((rows.count + blockRowCount - 1) / blockRowCount) { _, block in
      let start = rows.lowerBound + block * blockRowCount
      try body(start..<min(start + blockRowCount, rows.upperBound))
    }
  }

  private func run(_ steps: [Program.RowStep], rows: Range<Int>) throws {
    try eachBlock(of: rows) { block in
      for step in steps { run(step, rows: block) }
    }
  }

  private func run(_ step: Program.RowStep, rows: Range<Int>) {
    switch step {
    case .layerNorm(let epsilon, let gamma, let beta, let from, let to):
      withBuffers(gamma, beta) { gamma, beta in
        each(rows, from, to) { x, y in
          kernels.layerNormalize(x, epsilon: epsilon, gamma: gamma, beta: beta, into: y)
        }
      }
    case .rmsNorm(let epsilon, let gamma, let beta, let from, let to):
      withBuffers(gamma, beta) { gamma, beta in
        each(rows, from, to) { x, y in kernels.rmsNormalize(x, epsilon: epsilon, gamma: gamma, beta: beta, into: y) }
      }
    case .activate(let kind, let from, let to):
      let function = Kernels.Activation(kind)
      each(rows, from, to) { x, y in kernels.activate(function, x, into: y) }
    case .add(let a, let b, let to):
      let other = workspace.rows(of: b)
      let width = program.values[to].channelCount
      eachRow(rows, a, to) { row, x, y in
        kernels.add(x, UnsafeBufferPointer(start: other + row * width, count: width), into: y)
      }
    case .multiply(let a, let b, let to):
      let other = workspace.rows(of: b)
      let width = program.values[to].channelCount
      eachRow(rows, a, to) { row, x, y in
        kernels.multiply(x, UnsafeBufferPointer(start: other + row * width, count: width), into: y)
      }
    case .affine(let shift, let scale, let from, let to):
      withBuffers(shift, scale) { shift, scale in
        each(rows, from, to) { x, y in kernels.transform(x, shift: shift, scale: scale, into: y) }
      }
    case .slice(let slice, let from, let to):
      each(rows, from, to) { x, y in
        for start in stride(from: 0, to: y.count, by: slice.headSize) {
          guard let source = x.baseAddress, let target = y.baseAddress else { return }
          (target + start).update(from: source + slice.inputChannel(of: start), count: slice.headSize)
        }
      }
    case .quantize(let id): quantize(id, rows: rows)
    }
  }

  private func each(
    _ rows: Range<Int>, _ from: Program.ValueID, _ to: Program.ValueID,
    _ body: (UnsafeBufferPointer<Float>, UnsafeMutableBufferPointer<Float>) -> Void
  ) {
    eachRow(rows, from, to) { _, x, y in body(x, y) }
  }

  private func eachRow(
    _ rows: Range<Int>, _ from: Program.ValueID, _ to: Program.ValueID,
    _ body: (Int, UnsafeBufferPointer<Float>, UnsafeMutableBufferPointer<Float>) -> Void
  ) {
    let (fromWidth, toWidth) = (program.values[from].channelCount, program.values[to].channelCount)
    let (source, target) = (workspace.rows(of: from), workspace.rows(of: to))
    for row in rows {
      body(
        row, UnsafeBufferPointer(start: source + row * fromWidth, count: fromWidth),
        UnsafeMutableBufferPointer(start: target + row * toWidth, count: toWidth))
    }
  }

  private func quantize(_ id: Program.CodesID, rows: Range<Int>) {
    let codes = program.codes[id]
    let place = workspace.codes(id)
    let width = codes.channelCount
    let source = workspace.rows(of: codes.value)
    for row in rows {
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
