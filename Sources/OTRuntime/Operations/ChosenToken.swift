import OTGraph

/// One row of each sequence: of its first token, or of its last one.
final class ChosenRowsStage: Stage {
  private let last: LastToken?
  private let from, to: Program.ValueID

  /// - Parameter last: nil: the first token.
  static func lower(_ node: Node, _ last: LastToken?, into compiler: inout ProgramCompiler) {
    let from = compiler.valueID(node.inputs[0])
    let to = compiler.newValue(node)
    compiler.append(ChosenRowsStage(last, from, to: to), rows: .sequences)
  }

  private init(_ last: LastToken?, _ from: Program.ValueID, to: Program.ValueID) {
    (self.last, self.from, self.to) = (last, from, to)
  }

  var written: [Program.ValueID] { [to] }
  var read: [Program.ValueID] { [from] }

  func run(_ pass: Pass, rows: Range<Int>) throws {
    let width = pass.program.values[to].channelCount
    let (source, target) = (pass.workspace.rows(of: from), pass.workspace.rows(of: to))
    for (index, segment) in pass.batch.segments.enumerated() {
      let place = last?.index(in: pass.batch.tokenIDs[segment.rows]) ?? 0
      (target + index * width).update(from: source + (segment.rows.lowerBound + place) * width, count: width)
    }
  }
}
