/// The sum of two rows, channel by channel.
final class AddStep: RowStep {
  private let first, second, to: Program.ValueID

  init(_ first: Program.ValueID, _ second: Program.ValueID, to: Program.ValueID) {
    (self.first, self.second, self.to) = (first, second, to)
  }

  var written: Program.ValueID? { to }
  var read: [Program.ValueID] { [first, second] }

  func run(_ pass: Pass, _ block: RowBlock) {
    let kernels = pass.kernels
    pass.eachRow(block, first, second, to) { x, y, z in kernels.add(x, y, into: z) }
  }
}
