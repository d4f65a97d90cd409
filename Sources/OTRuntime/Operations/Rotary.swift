import OTGraph
import OTPlatform

/// Turns each head of a row by the angles of the row's position.
final class RotaryStep: RowStep {
  /// Of the program's rotary embeddings, the one that is meant.
  private let index: Int
  private let headSize: Int
  private let isInterleaved: Bool
  private let from, to: Program.ValueID

  init(_ index: Int, headSize: Int, isInterleaved: Bool, _ from: Program.ValueID, to: Program.ValueID) {
    (self.index, self.headSize, self.isInterleaved, self.from, self.to) = (index, headSize, isInterleaved, from, to)
  }

  var written: Program.ValueID? { to }
  var read: [Program.ValueID] { [from] }

  func run(_ pass: Pass, _ block: RowBlock) {
    let table = pass.workspace.rotaryTables[index]
    let kernels = pass.kernels
    table.withAngles { usual, long in
      pass.eachRow(block, from, to) { row, x, y in
        copy(x, y, pairCount: table.pairCount)
        let angles = pass.batch.sequenceLengths[row] > table.limit ? long : usual
        let start = pass.batch.positions[row] * table.pairCount
        let range = start..<start + table.pairCount
        kernels.rotate(
          y, headSize: headSize, cosines: UnsafeBufferPointer(rebasing: angles.cosines[range]),
          sines: UnsafeBufferPointer(rebasing: angles.sines[range]))
      }
    }
  }
}

extension RotaryStep {
  /// Copies a row. Where neighbours turn together, the first of each pair come first in their head, then the second:
  /// queries and keys alike, so that their products are the same.
  private func copy(_ x: UnsafeBufferPointer<Float>, _ y: UnsafeMutableBufferPointer<Float>, pairCount: Int) {
    _ = y.update(fromContentsOf: x)
    guard isInterleaved else { return }
    for start in stride(from: 0, to: x.count, by: headSize) {
      for pair in 0..<pairCount {
        y[start + pair] = x[start + 2 * pair]
        y[start + pairCount + pair] = x[start + 2 * pair + 1]
      }
    }
  }
}

/// Cosines and sines of a rotary embedding by position.
struct RotaryTable {
  let pairCount: Int
  /// Longer sequences have another rotation.
  let limit: Int
  private var usual: Angles
  private var long: Angles?

  /// As in the models' original implementations, frequencies and angles are rounded to float32.
  init(_ rotary: Rotary) {
    usual = Angles(rotary)
    long = rotary.longContext.map { Angles($0.rotary) }
    limit = rotary.longContext?.length ?? .max
    pairCount = rotary.dimensions / 2
  }

  mutating func reserve(positionCount: Int) {
    usual.reserve(positionCount: positionCount)
    long?.reserve(positionCount: positionCount)
  }

  /// Makes the table hold positions 0..<`positionCount` at least.
  mutating func extend(to positionCount: Int) {
    usual.extend(to: positionCount)
    if positionCount > limit { long?.extend(to: positionCount) }
  }

  /// Cosines and sines, `[position][pair]`.
  typealias Pointers = (cosines: UnsafeBufferPointer<Float>, sines: UnsafeBufferPointer<Float>)

  /// Calls `body` with the usual angles and those of long sequences.
  func withAngles(_ body: (Pointers, Pointers) -> Void) {
    usual.withPointers { usual in
      guard let long else { return body(usual, usual) }
      long.withPointers { body(usual, $0) }
    }
  }

  private struct Angles {
    private let frequencies: [Float]
    private let amplitude: Float
    private let growth: Rotary.QueryGrowth?
    private var cosines: [Float] = []
    private var sines: [Float] = []

    init(_ rotary: Rotary) {
      frequencies = rotary.frequencies.map { Float($0) }
      amplitude = Float(rotary.amplitude)
      growth = rotary.queryGrowth
    }

    func withPointers(_ body: (Pointers) -> Void) {
      cosines.withUnsafeBufferPointer { cosines in
        sines.withUnsafeBufferPointer { body((cosines, $0)) }
      }
    }

    mutating func reserve(positionCount: Int) {
      cosines.reserveCapacity(positionCount * frequencies.count)
      sines.reserveCapacity(positionCount * frequencies.count)
    }

    mutating func extend(to positionCount: Int) {
      guard !frequencies.isEmpty else { return }
      var position = cosines.count / frequencies.count
      while position < positionCount {
        let amplitude = growth.map { Float($0.factor(at: position)) * self.amplitude } ?? self.amplitude
        for frequency in frequencies {
          let angle = Float(position) * frequency
          cosines.append(cosf(angle) * amplitude)
          sines.append(sinf(angle) * amplitude)
        }
        position += 1
      }
    }
  }
}
