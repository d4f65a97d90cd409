import OTFoundation
import OTGraph
import OTKernels

/// Runs programs: what the executors and sessions share.
///
/// Executors differ in which weights are multiplied in integers alone; all
/// else is float32. Results do not depend on the number of threads, nor does a
/// row's result on how the rows are divided into batches, but for float
/// products, whose sums the BLAS orders by the number of rows: see `TokenSequence.productBlocks`.
final class Engine: Sendable {
  let graph: Graph
  let kernels: Kernels
  let pool: WorkerPool
  let timer = StageTimer()
  let parameters: any ParameterSource
  /// Bits of queries, keys and values, one scale per token: attention multiplies integers.
  /// nil: it is float.
  let attentionBits: Int?
  /// For speed.
  let fused: Program
  /// Other programs, made when they are first asked for.
  private let programs = Lock<[ProgramKey: Program]>([:])
  private let packed: [String: PackedMatrix]

  /// - Parameter packed: the weights that are multiplied in integers, by the name of their linear.
  /// - Throws: as `ProgramCompiler.program`; `Refusal` with a rule `blas-…` where floats are multiplied.
  init(
    graph: Graph, parameters: any ParameterSource, packed: [String: PackedMatrix], threadCount: Int,
    kernels: Kernels, attentionBits: Int? = nil
  ) throws {
    let multipliesFloats = graph.nodes.contains { node in
      if case .linear = node.operation { packed[node.name] == nil } else { false }
    }
    if multipliesFloats { try BLAS.load(threadCount: min(max(1, threadCount), Machine.processorCount)) }
    self.graph = graph
    self.parameters = parameters
    self.kernels = kernels
    self.attentionBits = attentionBits
    self.packed = packed
    fused = try ProgramCompiler.program(of: GraphPart(graph), parameters: parameters, packed: packed, fuses: true)
    pool = WorkerPool(threadCount: threadCount)
  }

  /// The part of the graph that a program runs: all of it, where nothing is wanted in particular.
  private struct ProgramKey: Hashable {
    var given: Set<String> = []
    var wanted: [String] = []
    /// For speed; otherwise for observers: every node has a value.
    var fuses = false
  }

  /// - Throws: as `ProgramCompiler.program` and `GraphPart`.
  private func program(_ key: ProgramKey) throws -> Program {
    try programs.withLock { programs in
      if let program = programs[key] { return program }
      let part =
        key.wanted.isEmpty && key.given.isEmpty
        ? GraphPart(graph) : try GraphPart(of: graph, from: key.given, until: key.wanted)
      let program = try ProgramCompiler.program(of: part, parameters: parameters, packed: packed, fuses: key.fuses)
      programs[key] = program
      return program
    }
  }

  /// - Throws: as `ProgramCompiler.program` and `GraphPart`.
  func listing(from given: Set<String>, until wanted: [String], fuses: Bool) throws -> ProgramListing {
    ProgramListing(try program(ProgramKey(given: given, wanted: wanted, fuses: fuses)))
  }

  /// Bytes that a token takes in the buffers, with an observer. (Reading parameters for it
  /// cannot fail where it has not failed before; if it does, the run itself says so.)
  var bytesPerToken: Int {
    (try? program(ProgramKey()).bytesPerToken) ?? fused.bytesPerToken * 2
  }

  /// The same of a part.
  ///
  /// - Throws: as `GraphPart`, or as parameters throw.
  func bytesPerToken(from given: Set<String>, until wanted: [String]) throws -> Int {
    try program(ProgramKey(given: given, wanted: wanted)).bytesPerToken
  }

  /// The element type of keys and values.
  var cacheForm: KeyValueCache.Form { attentionBits == nil ? .floats : .quantized }

  /// The rows that the tail is run for.
  enum TailRows {
    /// All, so many at a time.
    case all(blockSize: Int)
    /// Those of ranges, which may be none, so many at a time.
    case ranges([Range<Int>], blockSize: Int)
  }

  /// Runs a program on the rows of `batch`.
  ///
  /// - Parameter finished: called when the tail has been run for a range of
  ///   rows, whose outputs then are in the workspace.
  /// - Throws: `Refusal` of a parameter or an ID out of range, and what the closures throw.
  func run(
    _ batch: Batch, given: [String: [Matrix]] = [:], in workspace: Workspace, cache: KeyValueCache, tail: TailRows,
    observe: Executor.Observer? = nil, finished: (Range<Int>) throws -> Void
  ) throws {
    let program = workspace.program
    precondition(batch.rowCount <= workspace.rowCapacity && batch.segments.count <= workspace.sequenceCapacity)
    let longest = batch.longest
    for index in workspace.rotaryTables.indices { workspace.rotaryTables[index].extend(to: longest) }
    let pass = Pass(engine: self, workspace: workspace, batch: batch, given: given, cache: cache)
    for section in program.sections where section.region != .tail {
      try run(section, pass, tokens: 0..<batch.rowCount, observe)
    }
    func runTail(_ range: Range<Int>, blockSize: Int) throws {
      for start in stride(from: range.lowerBound, to: range.upperBound, by: blockSize) {
        let rows = start..<min(start + blockSize, range.upperBound)
        workspace.tailOrigin = start
        for section in program.sections where section.region == .tail {
          try run(section, pass, tokens: rows, observe)
        }
        try finished(rows)
      }
    }
    switch tail {
    case .all(let size): try runTail(0..<batch.rowCount, blockSize: size)
    case .ranges(let ranges, let size): for range in ranges { try runTail(range, blockSize: size) }
    }
  }

  /// Rows below which threads rather share each product's channels.
  private static let leastSectionRowCount = 32

  /// Runs a section: stage by stage on all rows, or where these are many and independent, each thread all stages on some
  /// rows after the other.
  private func run(
    _ section: Program.Section, _ pass: Pass, tokens rows: Range<Int>, _ observe: Executor.Observer?
  ) throws {
    let stages = pass.program.stages[section.stages]
    guard section.isRowwise, stages.count > 1, rows.count > Engine.leastSectionRowCount * pool.threadCount else {
      for placed in stages { try run(placed, pass, tokens: rows, observe) }
      return
    }
    let maximum = pass.workspace.sectionShare
    let blockCount = ((rows.count + maximum - 1) / maximum).roundedUp(toMultipleOf: pool.threadCount)
    let size = (rows.count + blockCount - 1) / blockCount
    try pool.run((rows.count + size - 1) / size) { worker, index in
      let start = rows.lowerBound + index * size
      let block = RowBlock(
        rows: start..<min(start + size, rows.upperBound), worker: worker, origin: start, isOfThread: true)
      for placed in stages {
        guard let stage = placed.stage as? any RowwiseStage else { continue }
        try timer.run(stage, pass, block, isFirst: index == 0)
      }
    }
  }

  /// Runs a stage on all of its rows, of tokens on those given, and shows its values.
  private func run(
    _ placed: Program.PlacedStage, _ pass: Pass, tokens: Range<Int>, _ observe: Executor.Observer?
  ) throws {
    let rows: Range<Int>
    switch placed.rows {
    case .tokens: rows = tokens
    case .sequences: rows = 0..<pass.batch.segments.count
    case .expert(let expert, let router):
      rows = 0..<pass.workspace.routingTable(router).count(of: expert)
      if rows.isEmpty { return }
    }
    try timer.run(placed.stage, pass, rows: rows)
    guard let observe else { return }
    for value in placed.shown {
      let place = pass.program.values[value]
      guard let node = place.node else { continue }
      let base = pass.workspace.rows(of: value) + rows.lowerBound * place.channelCount
      var shown = NodeValue(
        name: node, values: UnsafeBufferPointer(start: base, count: rows.count * place.channelCount),
        rowCount: rows.count, channelCount: place.channelCount)
      if case .expert(let expert, let router) = placed.rows {
        shown.tokens = Array(pass.workspace.routingTable(router).tokens(of: expert))
      }
      try observe(shown)
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
    try run(sequences, observe == nil ? fused : program(ProgramKey()), given: [:], observe: observe)
  }

  /// Runs a part of the graph.
  ///
  /// - Throws: as `Executor.run`.
  func run(
    _ sequences: [TokenSequence], from given: [String: [Matrix]], until wanted: [String], observe: Executor.Observer?
  ) throws -> [ExecutionResult] {
    let program = try program(ProgramKey(given: Set(given.keys), wanted: wanted, fuses: observe == nil))
    return try run(sequences, program, given: given, observe: observe)
  }

  private func run(
    _ sequences: [TokenSequence], _ program: Program, given: [String: [Matrix]], observe: Executor.Observer?
  ) throws -> [ExecutionResult] {
    let batch = try Batch(sequences, graph: graph)
    guard batch.rowCount > 0 else { return [] }
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
      batch, given: given, in: workspace, cache: try KeyValueCache(program.attentions, form: cacheForm, batch: batch),
      tail: .all(blockSize: blockSize), observe: observe
    ) { rows in
      for (name, value) in program.outputs where program.regions[value] == .tail { append(value, rows, to: name) }
    }
    for (name, value) in program.outputs where program.regions[value] != .tail {
      append(value, 0..<rows(of: value, workspace, batch).reduce(0) { $0 + $1.count }, to: name)
    }
    let ranges = program.outputs.mapValues { rows(of: $0, workspace, batch) }
    return batch.segments.indices.map { index in
      ExecutionResult(
        outputs: Dictionary(
          uniqueKeysWithValues: program.outputs.map { name, value in
            let width = program.values[value].channelCount
            let rows = ranges[name]?[index] ?? 0..<0
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

  /// The rows of a value that each sequence of a batch has.
  private func rows(of value: Program.ValueID, _ workspace: Workspace, _ batch: Batch) -> [Range<Int>] {
    switch workspace.program.values[value].rows {
    case .tokens: batch.segments.map(\.rows)
    case .sequences: batch.segments.indices.map { $0..<$0 + 1 }
    case .expert(let expert, let router):
      batch.segments.map { workspace.routingTable(router).rows(of: expert, among: $0.rows) }
    }
  }
}
