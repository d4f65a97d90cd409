import Foundation
import OTGraph

/// Turns each head of a row by the angles of the row's position.
final class RotaryStep: RowStep {
  /// Of the program's rotary embeddings, the one that is meant.
  private let index: Int
  private let headSize: Int
  private let from, to: Program.ValueID

  init(_ index: Int, headSize: Int, _ from: Program.ValueID, to: Program.ValueID) {
    (self.index, self.headSize, self.from, self.to) = (index, headSize, from, to)
  }

  var written: Program.ValueID? { to }
  var read: [Program.ValueID] { [from] }

  func run(_ pass: Pass, _ block: RowBlock) {
    let table = pass.workspace.rotaryTables[index]
    let kernels = pass.kernels
    table.cosines.withUnsafeBufferPointer { cosines in
      table.sines.withUnsafeBufferPointer { sines in
        pass.eachRow(block, from, to) { row, x, y in
          _ = y.update(fromContentsOf: x)
          let start = pass.batch.positions[row] * table.pairCount
          let angles = start..<start + table.pairCount
          kernels.rotate(
            y, headSize: headSize, cosines: UnsafeBufferPointer(rebasing: cosines[angles]),
            sines: UnsafeBufferPointer(rebasing: sines[angles]))
        }
      }
    }
  }
}

/// Cosines and sines of a rotary embedding by position.
struct RotaryTable {
  let pairCount: Int
  private let frequencies: [Float]
  private(set) var cosines: [Float] = []
  private(set) var sines: [Float] = []

  /// As in the models' original implementations, frequencies and angles are rounded to float32.
  init(_ rotary: Rotary) {
    frequencies = rotary.frequencies.map { Float($0) }
    pairCount = rotary.dimensions / 2
  }

  mutating func reserve(positionCount: Int) {
    cosines.reserveCapacity(positionCount * pairCount)
    sines.reserveCapacity(positionCount * pairCount)
  }

  /// Makes the table hold positions 0..<`positionCount` at least.
  mutating func extend(to positionCount: Int) {
    guard pairCount > 0 else { return }
    var position = cosines.count / pairCount
    while position < positionCount {
      for frequency in frequencies {
        let angle = Float(position) * frequency
        cosines.append(cosf(angle))
        sines.append(sinf(angle))
      }
      position += 1
    }
  }
}
