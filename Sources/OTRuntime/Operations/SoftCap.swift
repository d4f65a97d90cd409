import OTGraph
import OTKernels

/// A row bent towards ±c.
final class SoftCapStep: RowStep {
  private let cap: Float
  private let from, to: Program.ValueID

  init(_ softCap: SoftCap, _ from: Program.ValueID, to: Program.ValueID) {
    (cap, self.from, self.to) = (softCap.cap, from, to)
  }

  var written: Program.ValueID? { to }
  var read: [Program.ValueID] { [from] }

  func run(_ pass: Pass, _ block: RowBlock) {
    let kernels = pass.kernels
    pass.eachRow(block, from, to) { _, x, y in
      for channel in y.indices { y[channel] = x[channel] / cap }
      kernels.activate(.tanh, UnsafeBufferPointer(y), into: y)
      for channel in y.indices { y[channel] *= cap }
    }
  }
}
