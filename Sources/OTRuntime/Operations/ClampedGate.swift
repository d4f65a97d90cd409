import OTGraph
import OTPlatform

/// The product of a gate and what it gates, channel by channel, both within limits.
final class ClampedGateStep: RowStep {
  private let gate: ClampedGate
  private let first, second, to: Program.ValueID

  init(_ gate: ClampedGate, _ first: Program.ValueID, _ second: Program.ValueID, to: Program.ValueID) {
    (self.gate, self.first, self.second, self.to) = (gate, first, second, to)
  }

  var written: Program.ValueID? { to }
  var read: [Program.ValueID] { [first, second] }

  func run(_ pass: Pass, _ block: RowBlock) {
    let (limit, slope) = (gate.limit, gate.slope)
    pass.eachRow(block, first, second, to) { x, y, z in
      for channel in z.indices {
        // What is not a number stays so.
        let g = x[channel] > limit ? limit : x[channel]
        let u = y[channel] > limit ? limit : y[channel] < -limit ? -limit : y[channel]
        z[channel] = (u + 1) * (g / (1 + expf(-slope * g)))
      }
    }
  }
}
