import OTGraph

/// Shift and scale of a row, which migration put on an edge.
final class AffineStep: RowStep {
  private let shift, scale: [Float]?
  private let from, to: Program.ValueID

  static func lower(_ node: Node, into compiler: inout ProgramCompiler) throws {
    let shift = try compiler.vector(.shift, of: node)
    let scale = try compiler.vector(.scale, of: node)
    compiler.append(node) { AffineStep(shift: shift, scale: scale, $0[0], to: $1) }
  }

  init(shift: [Float]?, scale: [Float]?, _ from: Program.ValueID, to: Program.ValueID) {
    (self.shift, self.scale, self.from, self.to) = (shift, scale, from, to)
  }

  var written: Program.ValueID? { to }
  var read: [Program.ValueID] { [from] }

  func run(_ pass: Pass, _ block: RowBlock) {
    let kernels = pass.kernels
    withBuffers(shift, scale) { shift, scale in
      pass.eachRow(block, from, to) { _, x, y in kernels.transform(x, shift: shift, scale: scale, into: y) }
    }
  }
}
