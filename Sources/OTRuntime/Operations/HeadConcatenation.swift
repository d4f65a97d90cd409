import OTGraph

/// Heads of several rows side by side.
final class HeadConcatenationStep: RowStep {
  private let heads: HeadConcatenation
  private let from: [Program.ValueID]
  private let to: Program.ValueID

  init(_ heads: HeadConcatenation, _ from: [Program.ValueID], to: Program.ValueID) {
    (self.heads, self.from, self.to) = (heads, from, to)
  }

  var written: Program.ValueID? { to }
  var read: [Program.ValueID] { from }

  func run(_ pass: Pass, _ block: RowBlock) {
    let headSize = heads.sizes.reduce(0, +)
    let width = heads.headCount * headSize
    let target = pass.workspace.rows(of: to, in: block)
    var first = 0
    for (input, size) in zip(from, heads.sizes) {
      let source = pass.workspace.rows(of: input, in: block)
      let count = pass.program.values[input].channelCount
      // One head is part of all.
      let stride = count == size ? 0 : size
      for row in block.rows {
        for head in 0..<heads.headCount {
          (target + row * width + head * headSize + first)
            .update(from: source + row * count + head * stride, count: size)
        }
      }
      first += size
    }
  }
}
