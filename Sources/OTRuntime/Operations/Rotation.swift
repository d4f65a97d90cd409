import OTGraph

/// The Hadamard transform of blocks of a row, in the chain between a norm and quantization.
final class RotationStep: RowStep {
  private let rotation: Rotation
  private let from, to: Program.ValueID

  init(_ rotation: Rotation, _ from: Program.ValueID, to: Program.ValueID) {
    (self.rotation, self.from, self.to) = (rotation, from, to)
  }

  var written: Program.ValueID? { to }
  var read: [Program.ValueID] { [from] }

  func run(_ pass: Pass, _ block: RowBlock) {
    let kernels = pass.kernels
    pass.eachRow(block, from, to) { _, x, y in kernels.hadamard(x, blockSize: rotation.blockSize, into: y) }
  }
}
