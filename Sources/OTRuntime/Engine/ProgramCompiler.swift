import OTFoundation
import OTGraph

/// Makes a `Program` of a graph or of a part of one.
///
/// - Linears that read one value become one stage, at the place of the first of them.
/// - Values that linears multiply in integers are made integer at the end of
///   the chain of steps that computes them.
/// - With `fuses`, an activation function or a sum that alone reads a linear is done
///   with the product; without, every node has a value that can be shown.
struct ProgramCompiler {
  private let part: GraphPart
  private let parameters: any ParameterSource
  private let packed: [String: PackedMatrix]
  private let fuses: Bool

  private var stages: [(stage: Program.Stage, isSequences: Bool)] = []
  private var values: [Program.Value] = []
  private var isSequences: [Bool] = []
  private var codes: [Program.Codes] = []
  private var ids: [String: Program.Lookup.IDs] = [:]
  private var valueIDs: [String: Program.ValueID] = [:]
  private var codesIDs: [String: [Program.CodesID]] = [:]
  private var rotaries: [Rotary] = []
  private var mixings: [Program.Mixing] = []

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
        remedy: "put the model's config.json beside the checkpoint")
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

  private var graph: Graph { part.graph }

  // MARK: Nodes

  private mutating func add(_ node: Node) throws {
    // What has been done with another node.
    guard valueIDs[node.name] == nil else { return }
    guard !part.given.contains(node.name) else {
      let isSequences = part.nodesOfSequences.contains(node.name)
      stages.append((.copyGiven(node.name, to: newValue(node, isSequences: isSequences)), isSequences))
      return addCodes(of: node)
    }
    switch node.operation {
    case .tokenIDs: ids[node.name] = .tokens
    case .positionIDs: ids[node.name] = .positions
    case .tokenTypeIDs: ids[node.name] = .types
    case .embedding(let embedding):
      guard let ids = ids[node.inputs[0]], let use = use(.table, of: node) else {
        preconditionFailure("a valid embedding reads IDs and has a table")
      }
      let value = newValue(node)
      stages.append((.lookUp(.init(ids: ids, embedding: embedding, use: use, to: value)), false))
      addCodes(of: node)
    case .linear:
      try addProducts(reading: node.inputs[0])
    case .attention(let attention):
      addMixing(attention, node)
      addCodes(of: node)
    case .firstToken:
      let from = valueID(node.inputs[0])
      let value = newValue(node, isSequences: true)
      stages.append((.firstRows(from, to: value), true))
      addCodes(of: node)
    default:
      try addStep(node)
      addCodes(of: node)
    }
  }

  private mutating func addStep(_ node: Node) throws {
    let inputs = node.inputs.map(valueID)
    let value = newValue(node, isSequences: inputs.contains { isSequences[$0] })
    let step: Program.RowStep
    switch node.operation {
    case .layerNorm(let norm):
      step = .layerNorm(
        norm, gamma: try vector(.gamma, of: node), beta: try vector(.beta, of: node), inputs[0],
        to: value)
    case .rmsNorm(let norm):
      step = .rmsNorm(
        norm, gamma: try vector(.gamma, of: node), beta: try vector(.beta, of: node), inputs[0],
        to: value)
    case .activation(let kind): step = .activate(kind, inputs[0], to: value)
    case .add: step = .add(inputs[0], inputs[1], to: value)
    case .multiply: step = .multiply(inputs[0], inputs[1], to: value)
    case .affine:
      step = .affine(
        shift: try vector(.shift, of: node), scale: try vector(.scale, of: node), inputs[0], to: value)
    case .channelSlice(let slice): step = .slice(slice, inputs[0], to: value)
    case .tokenIDs, .positionIDs, .tokenTypeIDs, .embedding, .linear, .attention, .firstToken:
      preconditionFailure("these are no steps of a row")
    }
    append(step, isSequences: isSequences[value])
  }

  /// Adds a step to the chain before it, if what comes before is one.
  private mutating func append(_ step: Program.RowStep, isSequences: Bool) {
    if case .rows(let steps)? = stages.last?.stage, stages.last?.isSequences == isSequences {
      stages[stages.count - 1].stage = .rows(steps + [step])
    } else {
      stages.append((.rows([step]), isSequences))
    }
  }

  private mutating func addMixing(_ attention: Attention, _ node: Node) {
    var inputs = node.inputs.map(valueID)
    var slopes: [Float]?
    switch attention.positions {
    case .none: break
    case .alibi: slopes = Attention.alibiSlopes(headCount: attention.headCount)
    case .rotary(let rotary):
      let index = rotaries.firstIndex(of: rotary) ?? rotaries.count
      if index == rotaries.count { rotaries.append(rotary) }
      for input in 0..<2 {
        let rotated = newValue(of: nil, channelCount: values[inputs[input]].channelCount, isSequences: false)
        append(
          .rotate(index, headSize: attention.headSize, inputs[input], to: rotated), isSequences: false)
        inputs[input] = rotated
      }
    }
    let mixing = Program.Mixing(
      attention: attention, index: mixings.count, slopes: slopes, queries: inputs[0],
      keys: inputs[1], values: inputs[2], to: newValue(node))
    mixings.append(mixing)
    stages.append((.mix(mixing), false))
  }

  // MARK: Products

  /// Adds all linears that read the value of `producer`.
  private mutating func addProducts(reading producer: String) throws {
    // What the stage itself computes cannot be read by it.
    let earlier = 0..<values.count
    var products: [Program.Product] = []
    var added: [Node] = []
    let from = valueID(producer)
    var seen: Set<String> = []
    for name in part.consumers(of: producer) where valueIDs[name] == nil && seen.insert(name).inserted {
      guard let node = graph[name], case .linear(let linear) = node.operation else { continue }
      let (finish, last) = finish(of: node, earlier: earlier)
      let to = newValue(last, isSequences: isSequences[from])
      // The linear has no value of its own, but it is done.
      valueIDs[node.name] = to
      products.append(
        Program.Product(
          linear: linear, weights: try weights(of: node, linear, producer: producer),
          bias: try vector(.bias, of: node), finish: finish, from: from, to: to))
      added.append(last)
    }
    stages.append((.products(products), isSequences[from]))
    for node in added { addCodes(of: node) }
  }

  /// What is done to the product of `node`, and the node whose value it then is.
  private func finish(of node: Node, earlier: Range<Program.ValueID>) -> (Program.Finish, Node) {
    let readers = part.consumers(of: node.name)
    guard fuses, readers.count == 1, let reader = graph[readers[0]],
      !part.outputs.values.contains(node.name)
    else { return (.none, node) }
    switch reader.operation {
    case .activation(let kind): return (.activate(kind), reader)
    case .add:
      let other = reader.inputs[0] == node.name ? reader.inputs[1] : reader.inputs[0]
      guard let value = valueIDs[other], earlier.contains(value) else { return (.none, node) }
      return (.add(value), reader)
    default: return (.none, node)
    }
  }

  private func weights(
    of node: Node, _ linear: Linear, producer: String
  ) throws -> Program.Product.Weights {
    if let matrix = packed[node.name], let form = form(of: linear, producer: producer),
      let id = codesIDs[producer]?.first(where: { codes[$0].form == form }),
      let partition = codes[id].partitions.firstIndex(of: matrix.runs.map(\.columns))
    {
      return .packed(matrix, id, partition: partition)
    }
    guard let use = use(.weight, of: node) else { preconditionFailure("a linear has a weight") }
    return .float(use)
  }

  private func form(of linear: Linear, producer: String) -> Program.CodeForm? {
    guard linear.role == .block else { return .digits }
    switch graph.activations[producer] ?? .float {
    case .float: return .digits
    case .static(let bits): return .static(bits: bits)
    case .dynamic(let bits): return .dynamic(bits: bits)
    }
  }

  /// Has the value of `node` made integer for the linears that need it so.
  private mutating func addCodes(of node: Node) {
    let value = valueID(node.name)
    var ids: [Program.CodesID] = []
    for name in part.consumers(of: node.name) {
      guard case .linear(let linear)? = graph[name]?.operation, let matrix = packed[name],
        let form = form(of: linear, producer: node.name)
      else { continue }
      let columns = matrix.runs.map(\.columns)
      if let id = ids.first(where: { codes[$0].form == form }) {
        if !codes[id].partitions.contains(columns) { codes[id].partitions.append(columns) }
      } else {
        ids.append(codes.count)
        codes.append(
          Program.Codes(
            value: value, form: form, partitions: [columns], channelCount: values[value].channelCount))
      }
    }
    for id in ids { append(.quantize(id), isSequences: isSequences[value]) }
    codesIDs[node.name] = ids
  }

  // MARK: Values and parameters

  private mutating func newValue(_ node: Node, isSequences: Bool = false) -> Program.ValueID {
    let value = newValue(
      of: node.name, channelCount: graph.channelCount(of: node.name) ?? 0, isSequences: isSequences)
    valueIDs[node.name] = value
    return value
  }

  private mutating func newValue(of node: String?, channelCount: Int, isSequences: Bool) -> Program.ValueID {
    values.append(Program.Value(node: node, channelCount: channelCount))
    self.isSequences.append(isSequences)
    return values.count - 1
  }

  private func valueID(_ name: String) -> Program.ValueID {
    guard let value = valueIDs[name] else { preconditionFailure("a valid graph's inputs come first") }
    return value
  }

  private func use(_ role: ParameterUse.Role, of node: Node) -> ParameterUse? {
    graph.parameterUses(of: node.name).first { $0.role == role }
  }

  /// A parameter of one dimension: these stay in memory.
  private func vector(_ role: ParameterUse.Role, of node: Node) throws -> [Float]? {
    try use(role, of: node).map { try parameters.values(of: $0) }
  }

  // MARK: Placing

  private func program() -> Program {
    var isLastRows = stages.count
    // Rows of sequences depend on rows of tokens: then all rows are done together.
    // What is wanted of a part is wanted of all rows.
    if part.isWhole, !isSequences.contains(true),
      let last = stages.lastIndex(where: { if case .mix = $0.stage { true } else { false } })
    {
      isLastRows = last + 1
    }
    let regions = stages.indices.map { index -> Program.Region in
      stages[index].isSequences ? .sequences : index >= isLastRows ? .tail : .tokens
    }
    var program = Program(
      stages: zip(stages, regions).map { stage, region in
        Program.PlacedStage(stage: stage.stage, region: region, shown: fuses ? [] : stage.stage.written)
      }, values: values, regions: [], codes: codes, bufferSizes: [], codeBuffers: [],
      outputs: part.outputs.compactMapValues { valueIDs[$0] }, rotaries: rotaries, mixings: mixings)
    BufferPlanner.place(&program)
    return program
  }
}
