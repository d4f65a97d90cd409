import OTGraph
import OTKernels

extension Norm {
  func lower(_ node: Node, isCentered: Bool, into compiler: inout ProgramCompiler) throws {
    let gamma = try compiler.vector(.gamma, of: node)
    let beta = try compiler.vector(.beta, of: node)
    compiler.append(node) { NormStep(self, isCentered: isCentered, gamma: gamma, beta: beta, $0[0], to: $1) }
  }
}

/// LayerNorm or RMSNorm of a row, or of each of its groups.
final class NormStep: RowStep {
  private let norm: Norm
  /// True when the mean is subtracted: LayerNorm.
  private let isCentered: Bool
  private let gamma, beta: [Float]?
  private let from, to: Program.ValueID

  init(
    _ norm: Norm, isCentered: Bool, gamma: [Float]?, beta: [Float]?, _ from: Program.ValueID, to: Program.ValueID
  ) {
    (self.norm, self.isCentered, self.gamma, self.beta) = (norm, isCentered, gamma, beta)
    (self.from, self.to) = (from, to)
  }

  var written: Program.ValueID? { to }
  var read: [Program.ValueID] { [from] }

  func run(_ pass: Pass, _ block: RowBlock) {
    let kernels = pass.kernels
    let size = norm.normalizedSize
    withBuffers(gamma, beta) { gamma, beta in
      pass.eachRow(block, from, to) { _, x, y in
        for start in stride(from: 0, to: y.count, by: size) {
          let group = start..<start + size
          let own = norm.hasOwnGains ? group : 0..<size
          let (gamma, beta) = (
            gamma.map { UnsafeBufferPointer(rebasing: $0[own]) }, beta.map { UnsafeBufferPointer(rebasing: $0[own]) }
          )
          let (x, y) = (UnsafeBufferPointer(rebasing: x[group]), UnsafeMutableBufferPointer(rebasing: y[group]))
          if isCentered {
            kernels.layerNormalize(x, epsilon: norm.epsilon, gamma: gamma, beta: beta, into: y)
          } else {
            kernels.rmsNormalize(x, epsilon: norm.epsilon, gamma: gamma, beta: beta, into: y)
          }
        }
      }
    }
  }
}
