import OTGraph
import OTKernels

/// An element-wise function of a row.
final class ActivationStep: RowStep {
  private let function: Kernels.Activation
  private let from, to: Program.ValueID

  init(_ kind: ActivationKind, _ from: Program.ValueID, to: Program.ValueID) {
    (function, self.from, self.to) = (Kernels.Activation(kind), from, to)
  }

  var written: Program.ValueID? { to }
  var read: [Program.ValueID] { [from] }

  func run(_ pass: Pass, _ block: RowBlock) {
    let kernels = pass.kernels
    pass.eachRow(block, from, to) { _, x, y in kernels.activate(function, x, into: y) }
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
