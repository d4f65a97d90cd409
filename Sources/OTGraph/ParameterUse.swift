import OTTensor

/// One tensor that a node needs, and what migration does to it: enough to read
/// it from the checkpoint, transform it and write it, without knowing the node's operation.
///
/// In float32, each operation rounded once, with `s_in`, `z_in` from `input`
/// and `s_out`, `z_out` from `output` (absent vectors: the step is left out):
///
/// | role | value |
/// | --- | --- |
/// | weight | `R(w · s_in[column]) / s_out[row]`, `w` read as `tensor` says; `R` rotates the row where the input is rotated |
/// | bias | `((b + W·z_in) − z_out) / s_out`, `W` the checkpoint's own weight; `+ zero · Σ(W' − Ŵ')` where the input's code of 0 is `zero` and the transformed weight W' is rounded to Ŵ' |
/// | gamma | `γ / s_out`; ones where `tensor` is nil |
/// | beta | `(β − z_out) / s_out`; zeros where `tensor` is nil |
/// | table, distances, sinks, choiceBias | as it is |
/// | shift, scale | the vectors of `output`; no tensor of the checkpoint |
package struct ParameterUse: Sendable, Hashable {
  /// A tensor's part in its node.
  package enum Role: String, Sendable, Hashable {
    case weight, bias, gamma, beta, table, distances, sinks, choiceBias, shift, scale
  }

  /// Its source in the checkpoint; nil where migration creates it.
  package let tensor: SourceTensor?
  /// The name under which it is written: the checkpoint's where it is a whole
  /// tensor of that, else `<node>.bias`, `<node>.weight`, `<node>.shift`,
  /// `<node>.scale`. Tied tensors are used by several nodes under one name.
  package let outputName: String
  /// The node that needs it.
  package let node: String
  /// The tensor's part in the node.
  package let role: Role
  /// The shape that it must have, `[out, in]` for a weight.
  package let shape: Shape
  /// The transform of the node's input: along a weight's columns, and `W·z_in`
  /// of a bias. Identity but for the weights and biases of linears.
  package let input: ChannelTransform
  /// The rotation of the node's input after that, for the weight of a linear.
  package let inputRotation: Rotation?
  /// The code of 0 of the node's input, for the weight or bias of a linear.
  package let inputZero: Int
  /// The transform of the node's value: along a weight's rows, a vector's entries.
  package let output: ChannelTransform
  /// For the bias of a linear, the weight that `W·z_in` needs.
  package let weightTensor: SourceTensor?
  /// The name under which that weight is written.
  package var weightOutputName: String {
    if case .named(let name)? = weightTensor { name } else { "\(node).weight" }
  }
  /// For the weight or bias of a linear, its place in the model.
  package let linearRole: Linear.Role?

  /// True when its elements are written as the checkpoint has them.
  package var isUnchanged: Bool {
    guard let tensor, tensor.constant == 0 else { return false }
    switch role {
    case .weight: return input.scale == nil && inputRotation == nil && output.scale == nil
    case .bias: return input.shift == nil && output.isIdentity
    case .gamma: return output.scale == nil
    case .beta: return output.isIdentity
    case .table, .distances, .sinks, .choiceBias: return true
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
    let input = node.inputs.first.map(transform(ofValue:)) ?? .identity
    let output = transforms[node.name] ?? .identity
    return node.operation.body.parameters(input: input, output: output).compactMap { parameter in
      // Validation bounds every dimension by 2^31, so two of them always make a shape.
      guard let shape = Shape(parameter.dimensions) else { return nil }
      var outputName = "\(node.name).\(parameter.role.gainedName)"
      if case .named(let name)? = parameter.tensor { outputName = name }
      return ParameterUse(
        tensor: parameter.tensor, outputName: outputName, node: node.name, role: parameter.role, shape: shape,
        input: parameter.linear == nil ? .identity : input,
        inputRotation: parameter.role == .weight ? node.inputs.first.flatMap(rotation(ofValue:)) : nil,
        inputZero: parameter.linear == nil ? 0 : node.inputs.first.flatMap { activations[$0]?.zero } ?? 0,
        output: output,
        weightTensor: parameter.role == .bias ? parameter.linear?.weight : nil,
        linearRole: parameter.linear?.role)
    }
  }
}

extension ParameterUse.Role {
  /// The end of the name, behind the node's, of a parameter that is no whole tensor of the checkpoint.
  fileprivate var gainedName: String {
    switch self {
    case .weight, .gamma, .table, .distances: "weight"
    case .bias, .beta, .choiceBias: "bias"
    case .sinks, .shift, .scale: rawValue
    }
  }
}
