import OTGraph

/// Some channels of a row.
final class GatherStep: RowStep {
  /// Channels that lie side by side are copied together.
  private let runs: [Range<Int>]
  private let from, to: Program.ValueID

  init(_ gather: Gather, _ from: Program.ValueID, to: Program.ValueID) {
    var runs: [Range<Int>] = []
    for channel in gather.channels.channels(among: gather.size) {
      if let last = runs.last, last.upperBound == channel {
        runs[runs.count - 1] = last.lowerBound..<channel + 1
      } else {
        runs.append(channel..<channel + 1)
      }
    }
    (self.runs, self.from, self.to) = (runs, from, to)
  }

  var written: Program.ValueID? { to }
  var read: [Program.ValueID] { [from] }

  func run(_ pass: Pass, _ block: RowBlock) {
    pass.eachRow(block, from, to) { _, x, y in
      guard let source = x.baseAddress, var target = y.baseAddress else { return }
      for run in runs {
        target.update(from: source + run.lowerBound, count: run.count)
        target += run.count
      }
    }
  }
}
