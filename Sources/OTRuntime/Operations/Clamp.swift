import OTGraph

/// A row brought within ±bound.
final class ClampStep: RowStep {
  private let bound: Float
  private let from, to: Program.ValueID

  init(_ clamp: Clamp, _ from: Program.ValueID, to: Program.ValueID) {
    (bound, self.from, self.to) = (clamp.bound, from, to)
  }

  var written: Program.ValueID? { to }
  var read: [Program.ValueID] { [from] }

  func run(_ pass: Pass, _ block: RowBlock) {
    pass.eachRow(block, from, to) { _, x, y in
      for channel in y.indices { y[channel] = min(max(x[channel], -bound), bound) }
    }
  }
}
