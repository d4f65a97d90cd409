import OTCheckpoint
import OTGraph
import OTQuantization
import OTTensor

/// Decides for each tensor how it is stored.
struct TensorPlanner {
  let checkpoint: Checkpoint
  let catalog: TensorCatalog
  let options: ConversionOptions
  /// The quantization of the weights of blocks' linears, by node.
  let weights: [String: WeightPlan]

  /// Every parameter of the graph in execution order, then the transforms'
  /// vectors, then the source's tensors that no node uses.
  func tensors(_ graph: Graph) throws -> [PlannedTensor] {
    var planned: [PlannedTensor] = []
    var names: Set<String> = []
    let aliases = checkpoint.aliases
    for use in graph.parameterUses where use.role != .shift && use.role != .scale {
      guard names.insert(use.outputName).inserted else { continue }
      let view = use.tensor.flatMap { source in checkpoint[source.name].flatMap(source.view) }
      var tensor = PlannedTensor(
        outputName: use.outputName, shape: use.shape, view: view, use: use,
        treatment: try treatment(of: use, view))
      if let target = aliases[use.outputName], let original = planned.first(where: { $0.outputName == target }),
        isSame(original, tensor)
      {
        tensor = PlannedTensor(
          outputName: tensor.outputName, shape: tensor.shape, view: view, use: use, treatment: .alias(of: target))
      }
      if use.role == .weight, let plan = weights[use.node] { tensor.rounding = plan.rounding }
      tensor.sourceShape = use.tensor.flatMap { checkpoint[$0.name]?.shape }
      planned.append(tensor)
    }
    for (name, values) in graph.transformVectors {
      guard let shape = Shape([values.count]) else { continue }
      planned.append(
        PlannedTensor(outputName: name, shape: shape, view: nil, use: nil, treatment: .vector(values)))
    }
    for name in graph.unusedTensors(in: catalog) {
      guard let view = checkpoint[name] else { continue }
      let target = aliases[name].flatMap { target in
        planned.first { $0.outputName == target && $0.keepsElements }
      }
      var tensor = PlannedTensor(
        outputName: name, shape: view.shape, view: view, use: nil,
        treatment: target.map { .alias(of: $0.outputName) } ?? .unchanged)
      tensor.requiresFinite = false
      planned.append(tensor)
    }
    return planned
  }

  /// For a model of an unknown family: every float matrix is quantized, and those of a stack, one below the other.
  func tensorsWithoutGraph() -> [PlannedTensor] {
    let aliases = checkpoint.aliases
    return checkpoint.tensors.map { source in
      let view = stack(source) ?? source
      let bits = options.bits(forGroup: [view.name], otherwise: standardBits(view.name))
      var treatment = PlannedTensor.Treatment.unchanged
      if let target = aliases[view.name] {
        treatment = .alias(of: target)
      } else if let bits, bits <= 8 {
        treatment = quantized(view, options.scheme(bits: bits)) ?? .unchanged
      } else if bits != nil, source.shape.rank == 2, source.elementType.isConvertibleFloat,
        source.elementType.bitWidth > 16
      {
        treatment = .converted(.f16)
      }
      // A stack that stays as it is has its own shape.
      var isQuantized = false
      if case .quantized = treatment { isQuantized = true }
      let shown = isQuantized ? view : source
      var tensor = PlannedTensor(
        outputName: view.name, shape: shown.shape, view: shown, use: nil, treatment: treatment)
      tensor.sourceShape = source.shape
      // Which of the others the model needs is not known: masks hold infinities.
      tensor.requiresFinite = shown.shape.rank == 2
      return tensor
    }
  }

  /// The matrices of experts, one below the other; nil for what is no stack of them: kernels of convolutions, whose
  /// rows are short.
  private func stack(_ view: TensorView) -> TensorView? {
    guard view.shape.rank == 3, view.shape.dimensions[1] >= TileLayout.leastRowCount,
      view.shape.dimensions[2] >= TileLayout.leastRowCount
    else { return nil }
    return view.joiningRows()
  }

  /// Bits of a matrix of an unknown family: of embeddings and output heads, which their names tell, others.
  private func standardBits(_ name: String) -> Int {
    let parts = name.split(separator: ".")
    let isOutside = parts.contains { part in
      ["embed", "lm_head", "wte", "wpe"].contains { part.contains($0) } || part == "output" || part == "head"
    }
    return isOutside ? options.embeddingBits : options.bits
  }

  private func treatment(of use: ParameterUse, _ view: TensorView?) throws -> PlannedTensor.Treatment {
    switch (use.role, use.linearRole, view) {
    case (.weight, .block?, let view?):
      return quantized(view, weights[use.node]?.scheme) ?? (use.isUnchanged ? .unchanged : .evaluated)
    case (.weight, .rotation?, _): return .evaluated
    case (.weight, .router?, _): return use.isUnchanged ? .unchanged : .evaluated
    case (.weight, _, let view?), (.table, _, let view?):
      guard let bits = options.bits(forGroup: [use.node, use.outputName], otherwise: options.embeddingBits) else {
        return use.isUnchanged ? .unchanged : .evaluated
      }
      if bits <= 8, let treatment = quantized(view, options.scheme(bits: bits)) { return treatment }
      guard use.isUnchanged else { return .evaluated }
      return view.elementType.bitWidth == 16 ? .unchanged : .converted(.f16)
    default:
      return .evaluated
    }
  }

  /// Nil when the tensor is not to be quantized or is not a matrix worth it.
  private func quantized(_ view: TensorView, _ scheme: QuantizationScheme?) -> PlannedTensor.Treatment? {
    guard view.elementType.isConvertibleFloat else { return nil }
    return WeightPlan(scheme: scheme).scheme(for: view.shape).map { .quantized($0) }
  }

  private func isSame(_ a: PlannedTensor, _ b: PlannedTensor) -> Bool {
    guard a.keepsElements, b.keepsElements else { return false }
    switch (a.treatment, b.treatment) {
    case (.quantized(let first), .quantized(let second)): return first == second
    case (.converted(let first), .converted(let second)): return first == second
    case (.unchanged, .unchanged): return true
    default: return false
    }
  }
}
