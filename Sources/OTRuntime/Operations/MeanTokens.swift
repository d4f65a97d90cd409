import OTGraph

/// The mean of the rows of each sequence that are not hidden; zeros where all are. Sums are float64 in the order of
/// tokens.
final class MeanRowsStage: Stage {
  private let from, to: Program.ValueID

  static func lower(_ node: Node, into compiler: inout ProgramCompiler) {
    let from = compiler.valueID(node.inputs[0])
    let to = compiler.newValue(node)
    compiler.append(MeanRowsStage(from, to: to), rows: .sequences)
  }

  private init(_ from: Program.ValueID, to: Program.ValueID) { (self.from, self.to) = (from, to) }

  var written: [Program.ValueID] { [to] }
  var read: [Program.ValueID] { [from] }

  func run(_ pass: Pass, rows: Range<Int>) throws {
    let width = pass.program.values[to].channelCount
    let (source, target) = (pass.workspace.rows(of: from), pass.workspace.rows(of: to))
    for (index, segment) in pass.batch.segments.enumerated() {
      let seen = segment.rows.filter { row in pass.batch.mask.map { $0[row] != 0 } ?? true }
      for channel in 0..<width {
        let sum = seen.reduce(0.0) { $0 + Double(source[$1 * width + channel]) }
        target[index * width + channel] = Float(sum / Double(max(seen.count, 1)))
      }
    }
  }
}
