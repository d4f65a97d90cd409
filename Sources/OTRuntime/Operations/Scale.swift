import OTGraph

/// A row times a constant.
final class ScaleStep: RowStep {
  private let factor: Float
  private let from, to: Program.ValueID

  init(_ scale: Scale, _ from: Program.ValueID, to: Program.ValueID) {
    (factor, self.from, self.to) = (scale.factor, from, to)
  }

  var written: Program.ValueID? { to }
  var read: [Program.ValueID] { [from] }

  func run(_ pass: Pass, _ block: RowBlock) {
    pass.eachRow(block, from, to) { _, x, y in
      for channel in y.indices { y[channel] = x[channel] * factor }
    }
  }
}
