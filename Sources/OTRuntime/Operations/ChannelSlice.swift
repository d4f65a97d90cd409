import OTGraph

/// One part of a fused row.
final class SliceStep: RowStep {
  private let slice: ChannelSlice
  private let from, to: Program.ValueID

  init(_ slice: ChannelSlice, _ from: Program.ValueID, to: Program.ValueID) {
    (self.slice, self.from, self.to) = (slice, from, to)
  }

  var written: Program.ValueID? { to }
  var read: [Program.ValueID] { [from] }

  func run(_ pass: Pass, _ block: RowBlock) {
    pass.eachRow(block, from, to) { _, x, y in
      let run = slice.width * slice.blockSize
      for start in stride(from: 0, to: y.count, by: run) {
        guard let source = x.baseAddress, let target = y.baseAddress else { return }
        (target + start).update(from: source + slice.inputChannel(of: start), count: run)
      }
    }
  }
}
