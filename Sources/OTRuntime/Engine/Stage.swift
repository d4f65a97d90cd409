/// A unit of work that ends before the next begins.
///
/// (Stages, steps and products are classes: threads that share a loop would else count
/// references to every part of them.)
protocol Stage: AnyObject, Sendable {
  /// Values that it computes, in order.
  var written: [Program.ValueID] { get }
  /// Values that it reads.
  var read: [Program.ValueID] { get }
  /// Quantized values that it makes.
  var quantized: [Program.QuantizedID] { get }
  /// Quantized values that it reads.
  var readQuantized: [Program.QuantizedID] { get }

  /// Does it for some rows, on all threads.
  ///
  /// - Throws: `Refusal` of a parameter or an ID out of range.
  func run(_ pass: Pass, rows: Range<Int>) throws
}

/// A stage of which no row depends on another, so that a thread may take some rows through it alone.
protocol RowwiseStage: Stage {
  /// False where this one is none after all.
  var isRowwise: Bool { get }

  /// Does it for the rows of a block, on the thread that works on it.
  ///
  /// - Throws: as `run(_:rows:)`.
  func run(_ pass: Pass, in block: RowBlock) throws
}

extension Stage {
  var quantized: [Program.QuantizedID] { [] }
  var readQuantized: [Program.QuantizedID] { [] }
}

/// One step of a chain that works row by row.
protocol RowStep: AnyObject, Sendable {
  /// The value that it computes; nil: quantized ones.
  var written: Program.ValueID? { get }
  /// Values that it reads.
  var read: [Program.ValueID] { get }
  /// The quantized value that it makes.
  var quantized: Program.QuantizedID? { get }

  /// Does it for the rows of a block.
  func run(_ pass: Pass, _ block: RowBlock)
}

extension RowStep {
  var quantized: Program.QuantizedID? { nil }
}

/// Steps that a few rows at a time go through while they are in cache.
final class RowChain: RowwiseStage {
  let steps: [any RowStep]

  init(_ steps: [any RowStep]) { self.steps = steps }

  var written: [Program.ValueID] { steps.compactMap(\.written) }
  var read: [Program.ValueID] { steps.flatMap(\.read) }
  var quantized: [Program.QuantizedID] { steps.compactMap(\.quantized) }
  var isRowwise: Bool { true }

  func run(_ pass: Pass, rows: Range<Int>) throws {
    try pass.eachBlock(of: rows) { run(pass, in: $0) }
  }

  func run(_ pass: Pass, in block: RowBlock) {
    for start in stride(from: block.rows.lowerBound, to: block.rows.upperBound, by: Program.chainRowCount) {
      let few = block.part(start..<min(start + Program.chainRowCount, block.rows.upperBound))
      for step in steps { step.run(pass, few) }
    }
  }
}
