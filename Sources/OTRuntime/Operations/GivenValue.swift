import OTFoundation

/// The value of a node that is given instead of computed.
final class GivenStage: Stage {
  private let node: String
  private let to: Program.ValueID

  init(_ node: String, to: Program.ValueID) { (self.node, self.to) = (node, to) }

  var written: [Program.ValueID] { [to] }
  var read: [Program.ValueID] { [] }

  func run(_ pass: Pass, rows: Range<Int>) throws {
    let width = pass.program.values[to].channelCount
    let matrices = pass.given[node, default: []]
    let segments = pass.batch.segments
    let counts =
      switch pass.program.values[to].rows {
      case .tokens: segments.map(\.rows.count)
      case .sequences: segments.map { _ in 1 }
      case .expert(let expert, let router):
        segments.map { pass.workspace.routingTable(router).rows(of: expert, among: $0.rows).count }
      }
    guard matrices.map(\.rowCount) == counts, matrices.allSatisfy({ $0.channelCount == width }) else {
      throw Refusal("run-given", "the values given for '\(node)' do not have \(width) channels and a row per token")
    }
    var row = 0
    for matrix in matrices {
      matrix.values.withUnsafeBufferPointer { values in
        guard let source = values.baseAddress else { return }
        (pass.workspace.rows(of: to) + row * width).update(from: source, count: values.count)
      }
      row += matrix.rowCount
    }
  }
}
