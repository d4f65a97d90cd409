import OTTensor

/// One tensor that a node needs, and what migration does to it: enough to read
/// it from the checkpoint, transform it and write it, without knowing the node's operation.
///
/// In float32, each operation rounded once, with `s_in`, `z_in` from `input`
/// and `s_out`, `z_out` from `output` (absent vectors: the step is left out):
///
/// | role | value |
/// | --- | --- |
/// | weight | `(w · s_in[column]) / s_out[row]`, `w` read as `tensor` says |
/// | bias | `((b + W·z_in) − z_out) / s_out`, `W` the checkpoint's own weight |
/// | gamma | `γ / s_out`; ones where `tensor` is nil |
/// | beta | `(β − z_out) / s_out`; zeros where `tensor` is nil |
/// | table | as it is |
/// | shift, scale | the vectors of `output`; no tensor of the checkpoint |
package struct ParameterUse: Sendable, Hashable {
  /// What a tensor is to its node.
  package enum Role: String, Sendable, Hashable {
    case weight, bias, gamma, beta, table, shift, scale
  }

  /// What it is made of in the checkpoint; nil where migration creates it.
  package let tensor: SourceTensor?
  /// The name under which it is written: the checkpoint's where it is a whole
  /// tensor of that, else `<node>.bias`, `<node>.weight`, `<node>.shift`,
  /// `<node>.scale`. Tied tensors are used by several nodes under one name.
  package let outputName: String
  /// The node that needs it.
  package let node: String
  /// What it is to the node.
  package let role: Role
  /// The shape that it must have, `[out, in]` for a weight.
  package let shape: Shape
  /// What was done to the node's input: along a weight's columns, and `W·z_in`
  /// of a bias. Identity but for the weights and biases of linears.
  package let input: ChannelTransform
  /// What is done to the node's value: along a weight's rows, a vector's entries.
  package let output: ChannelTransform
  /// For the bias of a linear, the weight that `W·z_in` needs.
  package let weightTensor: SourceTensor?
  /// The name under which that weight is written.
  package var weightOutputName: String {
    if case .named(let name)? = weightTensor { name } else { "\(node).weight" }
  }
  /// For the weight or bias of a linear, where in the model it is.
  package let linearRole: Linear.Role?

  /// Whether its elements are written as the checkpoint has them.
  package var isUnchanged: Bool {
    guard let tensor, tensor.constant == 0 else { return false }
    switch role {
    case .weight: return input.scale == nil && output.scale == nil
    case .bias: return input.shift == nil && output.isIdentity
    case .gamma: return output.scale == nil
    case .beta: return output.isIdentity
    case .table: return true
    case .shift, .scale: return false
    }
  }
}

extension Graph {
  /// Every tensor that every node needs, in execution order; within a node
  /// weight, bias; gamma, beta; shift, scale.
  package var parameterUses: [ParameterUse] { nodes.flatMap(parameterUses) }

  /// The tensors that the node called `name` needs; empty where it needs none
  /// or does not exist.
  package func parameterUses(of name: String) -> [ParameterUse] {
    self[name].map(parameterUses) ?? []
  }

  /// Names in `catalog` that no node uses, sorted: buffers and the like, which
  /// are carried through unchanged.
  package func unusedTensors(in catalog: TensorCatalog) -> [String] {
    let used = Set(parameterUses.compactMap(\.tensor?.name))
    return catalog.names.filter { !used.contains($0) }
  }

  private func parameterUses(of node: Node) -> [ParameterUse] {
    let output = transforms[node.name] ?? .identity
    var uses: [ParameterUse] = []

    func add(
      _ role: ParameterUse.Role, _ tensor: SourceTensor?, gained: String, _ dimensions: [Int],
      input: ChannelTransform = .identity, linear: Linear? = nil
    ) {
      // Validation bounds every dimension by 2^31, so two of them always make a shape.
      guard let shape = Shape(dimensions) else { return }
      var outputName = "\(node.name).\(gained)"
      if case .named(let name)? = tensor { outputName = name }
      uses.append(
        ParameterUse(
          tensor: tensor, outputName: outputName, node: node.name,
          role: role, shape: shape, input: input, output: output,
          weightTensor: role == .bias ? linear?.weight : nil, linearRole: linear?.role))
    }

    switch node.operation {
    case .embedding(let embedding):
      add(.table, embedding.table, gained: "weight", [embedding.rowCount, embedding.size])
    case .linear(let linear):
      let input = transform(ofValue: node.inputs[0])
      add(
        .weight, linear.weight, gained: "weight", [linear.outFeatures, linear.inFeatures],
        input: input, linear: linear)
      if linear.bias != nil || input.shift != nil || output.shift != nil {
        add(.bias, linear.bias, gained: "bias", [linear.outFeatures], input: input, linear: linear)
      }
    case .layerNorm(let norm), .rmsNorm(let norm):
      if norm.gamma != nil || output.scale != nil {
        add(.gamma, norm.gamma, gained: "weight", [norm.size])
      }
      if norm.beta != nil || output.shift != nil {
        add(.beta, norm.beta, gained: "bias", [norm.size])
      }
    case .affine:
      if let shift = output.shift { add(.shift, nil, gained: "shift", [shift.count]) }
      if let scale = output.scale { add(.scale, nil, gained: "scale", [scale.count]) }
    case .tokenIDs, .positionIDs, .tokenTypeIDs, .attention, .headSlice, .activation, .multiply,
      .add, .firstToken:
      break
    }
    return uses
  }
}
