import OTFoundation
import OTGraph

extension Embedding {
  func lower(_ node: Node, into compiler: inout ProgramCompiler) {
    guard let ids = compiler.ids[node.inputs[0]], let use = compiler.use(.table, of: node) else {
      preconditionFailure("a valid embedding reads IDs and has a table")
    }
    let to = compiler.newValue(node)
    compiler.append(LookupStage(self, ids: ids, use: use, to: to))
  }
}

/// The rows of a table, by IDs.
final class LookupStage: Stage {
  enum IDs: Sendable {
    case tokens, positions, types
    case counted(CountedPositions)
  }

  private let embedding: Embedding
  private let ids: IDs
  private let use: ParameterUse
  private let to: Program.ValueID

  init(_ embedding: Embedding, ids: IDs, use: ParameterUse, to: Program.ValueID) {
    (self.embedding, self.ids, self.use, self.to) = (embedding, ids, use, to)
  }

  var written: [Program.ValueID] { [to] }
  var read: [Program.ValueID] { [] }

  func run(_ pass: Pass, rows: Range<Int>) throws {
    var known = 0..<embedding.rowCount - embedding.rowOffset
    let ids: [Int]
    switch self.ids {
    case .tokens: ids = pass.batch.tokenIDs
    case .positions: ids = pass.batch.positions
    case .types: ids = pass.batch.tokenTypeIDs
    case .counted(let positions):
      ids = pass.batch.segments.flatMap { positions.ids(of: pass.batch.tokenIDs[$0.rows]) }
      // The row before the first position's is that of padding.
      known = max(-1, -embedding.rowOffset)..<known.upperBound
    }
    let target = pass.workspace.rows(of: to)
    try pass.eachBlock(of: rows) { block in
      for row in block.rows {
        guard known.contains(ids[row]) else {
          throw Refusal(
            "run-token-id",
            "token \(row) has the ID \(ids[row]), '\(use.node)' has \(known.lowerBound)...\(known.upperBound - 1)")
        }
        let tableRow = ids[row] + embedding.rowOffset
        try pass.engine.parameters.read(
          use, rows: tableRow..<tableRow + 1,
          into: UnsafeMutableBufferPointer(start: target + row * embedding.size, count: embedding.size))
      }
    }
  }
}
