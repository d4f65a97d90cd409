import OTFoundation
import OTGraph

/// Makes a `Program` of a graph or of a part of one.
///
/// - Linears that read one value become one stage, at the place of the first of them.
/// - Values that linears multiply in integers are quantized at the end of
///   the chain of steps that computes them.
/// - With `fuses`, an activation function or a sum that alone reads a linear is done
///   with the product; without, every node has a value that can be shown.
struct ProgramCompiler {
  let part: GraphPart
  private let parameters: any ParameterSource
  let packed: [String: PackedMatrix]
  let fuses: Bool

  private var stages: [(stage: any Stage, rows: Program.Rows)] = []
  private(set) var values: [Program.Value] = []
  private(set) var quantizedValues: [Program.QuantizedValue] = []
  private(set) var ids: [String: LookupStage.IDs] = [:]
  /// The values of nodes that are done.
  var valueIDs: [String: Program.ValueID] = [:]
  private var quantizedIDs: [Program.ValueID: [Program.QuantizedID]] = [:]
  private var rotaries: [Rotary] = []
  private var routers: [Program.Router] = []
  /// The numbers of routers, by the node.
  private(set) var routerIDs: [String: Int] = [:]
  /// The sums over experts, by the node that is one: values that gain what each expert gives.
  var mixtures: [String: Program.ValueID] = [:]
  var attentions: [AttentionStage] = []
  private var linears: [String: [Readers: [String]]] = [:]

  /// - Parameter packed: the weights that are multiplied in integers, by the name of their linear.
  /// - Throws: `Refusal` with rule `run-incomplete` where the graph lacks
  ///   facts, `run-size` where a dimension does not fit in 32 bits; or as `parameters` throws.
  static func program(
    of part: GraphPart, parameters: any ParameterSource, packed: [String: PackedMatrix], fuses: Bool
  ) throws -> Program {
    let graph = part.graph
    guard graph.missing.isEmpty else {
      throw Refusal(
        "run-incomplete", "the model cannot be run, for lack of \(graph.missing.joined(separator: ", "))",
        remedy: "put the model's config.json beside the checkpoint (and convert it again)")
    }
    for node in part.nodes where (graph.channelCount(of: node.name) ?? 0) > Int(Int32.max) {
      throw Refusal("run-size", "'\(node.name)' has too many channels to be run")
    }
    var compiler = ProgramCompiler(part: part, parameters: parameters, packed: packed, fuses: fuses)
    for node in part.nodes { try compiler.add(node) }
    return compiler.program()
  }

  private init(part: GraphPart, parameters: any ParameterSource, packed: [String: PackedMatrix], fuses: Bool) {
    self.part = part
    self.parameters = parameters
    self.packed = packed
    self.fuses = fuses
  }

  var graph: Graph { part.graph }

  // MARK: Nodes

  private mutating func add(_ node: Node) throws {
    // Another node has done it.
    guard valueIDs[node.name] == nil else { return }
    if part.given.contains(node.name) {
      let value = newValue(node)
      append(GivenStage(node.name, to: value), rows: values[value].rows)
    } else {
      try node.operation.lower(node, into: &self)
    }
    try finish(node)
  }

  /// What follows on a node's value, wherever that comes from.
  mutating func finish(_ node: Node) throws {
    guard let value = valueIDs[node.name], quantizedIDs[value] == nil else { return }
    try quantize(node)
    if case .routing(let routing) = node.operation { append(routing, node, value) }
    for reader in part.consumers(of: node.name) {
      if case .mixture? = graph[reader]?.operation { mix(node, value, into: reader) }
    }
  }

  private mutating func append(_ routing: Routing, _ node: Node, _ value: Program.ValueID) {
    routerIDs[node.name] = routers.count
    append(RoutingTableStage(routers.count, of: value), rows: .tokens)
    routers.append(Program.Router(routing: routing))
  }

  /// Linears that read one value, by what else decides which are multiplied together.
  private struct Readers: Hashable {
    let expert: Int?
    let others: [String]
  }

  /// The linears that multiply the value of a node, each once, of one expert and with the same other inputs.
  ///
  /// All readers of a value are looked at once: it may have hundreds of experts.
  mutating func linears(reading producer: String, with expert: Int?, _ others: [String]) -> [String] {
    let wanted = Readers(expert: expert, others: others)
    if let known = linears[producer] { return known[wanted] ?? [] }
    var groups: [Readers: [String]] = [:]
    var seen: Set<String> = []
    for name in part.consumers(of: producer) where seen.insert(name).inserted {
      guard let reader = graph[name], case .linear(let linear) = reader.operation, reader.inputs.first == producer
      else { continue }
      groups[Readers(expert: linear.expert, others: Array(reader.inputs.dropFirst())), default: []].append(name)
    }
    linears[producer] = groups
    return groups[wanted] ?? []
  }

  // MARK: What operations add

  mutating func add(_ kind: LookupStage.IDs, _ node: Node) { ids[node.name] = kind }

  mutating func append(_ stage: any Stage, rows: Program.Rows = .tokens) { stages.append((stage, rows)) }

  /// Adds a step that computes the value of `node`; `step` is given its inputs and its value.
  mutating func append(_ node: Node, _ step: ([Program.ValueID], Program.ValueID) -> any RowStep) {
    let inputs = node.inputs.map(valueID)
    let value = newValue(node)
    append(step(inputs, value), rows: values[value].rows)
  }

  /// Adds a step to the chain before it, if what comes before is one.
  mutating func append(_ step: any RowStep, rows: Program.Rows) {
    if let chain = stages.last?.stage as? RowChain, stages.last?.rows == rows {
      stages[stages.count - 1].stage = RowChain(chain.steps + [step])
    } else {
      stages.append((RowChain([step]), rows))
    }
  }

  /// The number of a rotary embedding in the program.
  mutating func index(of rotary: Rotary) -> Int {
    if let index = rotaries.firstIndex(of: rotary) { return index }
    rotaries.append(rotary)
    return rotaries.count - 1
  }

  /// A value's heads turned by the angles of a rotary embedding.
  mutating func rotated(_ value: Program.ValueID, by rotary: Int, headSize: Int) -> Program.ValueID {
    let isInterleaved = rotaries[rotary].isInterleaved
    let rotated = newValue(channelCount: values[value].channelCount)
    append(RotaryStep(rotary, headSize: headSize, isInterleaved: isInterleaved, value, to: rotated), rows: .tokens)
    return rotated
  }

  // MARK: Quantized values

  /// Quantizes the node's value for the linears that read integers.
  ///
  /// - Throws: `Refusal` with rule `run-groups` where groups of weights end within groups of activations.
  mutating func quantize(_ node: Node) throws {
    // Experts multiply rows of their own.
    let readers = part.consumers(of: node.name).filter { name in
      if case .linear(let linear)? = graph[name]?.operation { linear.expert == nil } else { false }
    }
    try quantize(valueID(node.name), of: node.name, for: readers)
  }

  /// Quantizes a value for those of some linears that read integers; `producer` is the node whose value it has,
  /// all of it or the rows of an expert.
  ///
  /// - Throws: `Refusal` with rule `run-groups`.
  mutating func quantize(_ value: Program.ValueID, of producer: String, for readers: [String]) throws {
    var ids: [Program.QuantizedID] = []
    for name in readers {
      guard case .linear(let linear)? = graph[name]?.operation, let matrix = packed[name] else { continue }
      let quantization = quantization(of: linear, producer: producer)
      let columns = matrix.runs.map(\.columns)
      if let size = quantization.groupSize, columns.contains(where: { $0.lowerBound % size != 0 }) {
        throw Refusal(
          "run-groups", "the groups of its weights are not whole groups of \(size) activations",
          tensor: linear.weight.name, remedy: "convert with groups of weights that are multiples of \(size)")
      }
      if let id = ids.first(where: { quantizedValues[$0].quantization == quantization }) {
        if !quantizedValues[id].partitions.contains(columns) { quantizedValues[id].partitions.append(columns) }
      } else {
        ids.append(quantizedValues.count)
        quantizedValues.append(
          Program.QuantizedValue(
            value: value, quantization: quantization, partitions: [columns],
            channelCount: values[value].channelCount))
      }
    }
    for id in ids { append(QuantizationStep(id, of: value), rows: values[value].rows) }
    quantizedIDs[value] = ids
  }

  /// The quantized value that a linear reads, and the partition that fits its weight.
  func quantizedInput(
    of linear: Linear, _ matrix: PackedMatrix, _ value: Program.ValueID, producer: String
  ) -> (Program.QuantizedID, partition: Int)? {
    let quantization = quantization(of: linear, producer: producer)
    guard let id = quantizedIDs[value]?.first(where: { quantizedValues[$0].quantization == quantization }),
      let partition = quantizedValues[id].partitions.firstIndex(of: matrix.runs.map(\.columns))
    else { return nil }
    return (id, partition)
  }

  private func quantization(of linear: Linear, producer: String) -> Program.Quantization {
    guard linear.role == .block else { return .limbs }
    switch graph.activations[producer] ?? .float {
    case .float: return .limbs
    case .static(let bits, _): return .static(bits: bits)
    case .asymmetric(let bits, nil): return .asymmetric(bits: bits)
    case .asymmetric(let bits, let size?): return .groups(bits: bits, size: size, isAsymmetric: true)
    case .dynamic(let bits, nil): return .dynamic(bits: bits)
    case .dynamic(let bits, let size?): return .groups(bits: bits, size: size, isAsymmetric: false)
    }
  }

  // MARK: Values and parameters

  mutating func newValue(_ node: Node) -> Program.ValueID {
    values.append(
      Program.Value(
        node: node.name, channelCount: graph.channelCount(of: node.name) ?? 0, rows: rows(of: node.name)))
    valueIDs[node.name] = values.count - 1
    return values.count - 1
  }

  /// A value that is no node's.
  mutating func newValue(channelCount: Int, rows: Program.Rows = .tokens) -> Program.ValueID {
    values.append(Program.Value(node: nil, channelCount: channelCount, rows: rows))
    return values.count - 1
  }

  /// The rows of a node's value. In a part without the router, all rows are an expert's.
  private func rows(of node: String) -> Program.Rows {
    switch graph.rows(of: node) {
    case .sequences: .sequences
    case .expert(let expert, let router): routerIDs[router].map { .expert(expert, of: $0) } ?? .tokens
    case .tokens, .routing, nil: .tokens
    }
  }

  func valueID(_ name: String) -> Program.ValueID {
    guard let value = valueIDs[name] else { preconditionFailure("a valid graph's inputs come first") }
    return value
  }

  func use(_ role: ParameterUse.Role, of node: Node) -> ParameterUse? {
    graph.parameterUses(of: node.name).first { $0.role == role }
  }

  /// A parameter of one dimension, or those of its parts, one after the other: these stay in memory.
  func vector(_ role: ParameterUse.Role, of node: Node) throws -> [Float]? {
    let uses = graph.parameterUses(of: node.name).filter { $0.role == role }
    return uses.isEmpty ? nil : try uses.flatMap { try parameters.values(of: $0) }
  }

  // MARK: Placing

  /// True when experts after a stage go by a choice from before it.
  private func isRouted(across index: Int) -> Bool {
    let made = Set(stages[...index].compactMap { ($0.stage as? RoutingTableStage)?.router })
    return stages[index...].contains { $0.rows.router.map(made.contains) ?? false }
  }

  private func program() -> Program {
    var isLastRows = stages.count
    // Rows of sequences depend on rows of tokens: then all rows are done together.
    // What is wanted of a part is wanted of all rows.
    if part.isWhole, !values.contains(where: { $0.rows == .sequences }),
      let last = stages.lastIndex(where: { $0.stage is AttentionStage }), !isRouted(across: last)
    {
      isLastRows = last + 1
    }
    let regions = stages.indices.map { index -> Program.Region in
      stages[index].rows == .sequences ? .sequences : index >= isLastRows ? .tail : .tokens
    }
    var program = Program(
      stages: zip(stages, regions).map { stage, region in
        Program.PlacedStage(
          stage: stage.stage, region: region, rows: stage.rows, shown: fuses ? [] : stage.stage.written)
      }, values: values, regions: [], quantizedValues: quantizedValues, bufferSizes: [], quantizedBuffers: [],
      outputs: part.outputs.compactMapValues { valueIDs[$0] }, rotaries: rotaries, routers: routers,
      attentions: attentions)
    program.sections = ProgramCompiler.sections(of: program)
    BufferPlanner.place(&program)
    return program
  }

  /// Divides the stages into sections: those of which no row depends on another, as many as follow each other, and the
  /// others one by one. What observers are shown needs all rows; and where rows are wide, threads better share products.
  private static func sections(of program: Program) -> [Program.Section] {
    var sections: [Program.Section] = []
    for (index, placed) in program.stages.enumerated() {
      let byteCount =
        placed.stage is RowChain ? 0 : placed.stage.written.reduce(0) { $0 + 4 * program.values[$1].channelCount }
      let isRowwise =
        (placed.stage as? any RowwiseStage)?.isRowwise == true && placed.rows == .tokens && placed.shown.isEmpty
        && byteCount <= Program.sectionRowByteCount
      if isRowwise, let last = sections.last, last.isRowwise, last.region == placed.region {
        sections[sections.count - 1] = Program.Section(
          stages: last.stages.lowerBound..<index + 1, region: last.region, isRowwise: true)
      } else {
        sections.append(Program.Section(stages: index..<index + 1, region: placed.region, isRowwise: isRowwise))
      }
    }
    return sections
  }
}
