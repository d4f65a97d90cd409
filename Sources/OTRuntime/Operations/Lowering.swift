import OTGraph

extension OTGraph.Operation {
  /// Adds what a node with this operation does to the program: a stage, or a step of a
  /// chain, which the operation's file beside this one describes.
  ///
  /// - Throws: as parameters throw.
  func lower(_ node: Node, into compiler: inout ProgramCompiler) throws {
    switch self {
    case .tokenIDs: compiler.add(.tokens, node)
    case .positionIDs: compiler.add(.positions, node)
    case .countedPositionIDs(let positions): compiler.add(.counted(positions), node)
    case .tokenTypeIDs: compiler.add(.types, node)
    case .embedding(let embedding): embedding.lower(node, into: &compiler)
    case .linear(let linear): try ProductStage.lower(linear, node, into: &compiler)
    case .layerNorm(let norm): try norm.lower(node, isCentered: true, into: &compiler)
    case .rmsNorm(let norm): try norm.lower(node, isCentered: false, into: &compiler)
    case .attention(let attention): try attention.lower(node, into: &compiler)
    case .channelSlice(let slice): compiler.append(node) { SliceStep(slice, $0[0], to: $1) }
    case .headConcatenation(let heads): compiler.append(node) { HeadConcatenationStep(heads, $0, to: $1) }
    case .gather(let gather): compiler.append(node) { GatherStep(gather, $0[0], to: $1) }
    case .activation(let kind): compiler.append(node) { ActivationStep(kind, $0[0], to: $1) }
    case .scale(let scale): compiler.append(node) { ScaleStep(scale, $0[0], to: $1) }
    case .softCap(let softCap): compiler.append(node) { SoftCapStep(softCap, $0[0], to: $1) }
    case .clamp(let clamp): compiler.append(node) { ClampStep(clamp, $0[0], to: $1) }
    case .multiply: compiler.append(node) { MultiplyStep($0[0], $0[1], to: $1) }
    case .clampedGate(let gate): compiler.append(node) { ClampedGateStep(gate, $0[0], $0[1], to: $1) }
    case .routing(let routing): try routing.lower(node, into: &compiler)
    case .mixture: MixtureStep.lower(node, into: &compiler)
    case .add: compiler.append(node) { AddStep($0[0], $0[1], to: $1) }
    case .firstToken: ChosenRowsStage.lower(node, nil, into: &compiler)
    case .lastToken(let last): ChosenRowsStage.lower(node, last, into: &compiler)
    case .meanTokens: MeanRowsStage.lower(node, into: &compiler)
    case .affine: try AffineStep.lower(node, into: &compiler)
    case .rotation(let rotation): compiler.append(node) { RotationStep(rotation, $0[0], to: $1) }
    }
  }
}
