import OTGraph

/// The first row of each sequence.
final class FirstRowsStage: Stage {
  private let from, to: Program.ValueID

  static func lower(_ node: Node, into compiler: inout ProgramCompiler) {
    let from = compiler.valueID(node.inputs[0])
    let to = compiler.newValue(node, isSequences: true)
    compiler.append(FirstRowsStage(from, to: to), isSequences: true)
  }

  private init(_ from: Program.ValueID, to: Program.ValueID) { (self.from, self.to) = (from, to) }

  var written: [Program.ValueID] { [to] }
  var read: [Program.ValueID] { [from] }

  func run(_ pass: Pass, rows: Range<Int>) throws {
    let width = pass.program.values[to].channelCount
    let (source, target) = (pass.workspace.rows(of: from), pass.workspace.rows(of: to))
    for (index, segment) in pass.batch.segments.enumerated() {
      (target + index * width).update(from: source + segment.rows.lowerBound * width, count: width)
    }
  }
}
