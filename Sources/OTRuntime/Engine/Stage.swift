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

  /// Does it for some rows.
  ///
  /// - Throws: `Refusal` of a parameter or an ID out of range.
  func run(_ pass: Pass, rows: Range<Int>) throws
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
final class RowChain: Stage {
  let steps: [any RowStep]

  init(_ steps: [any RowStep]) { self.steps = steps }

  var written: [Program.ValueID] { steps.compactMap(\.written) }
  var read: [Program.ValueID] { steps.flatMap(\.read) }
  var quantized: [Program.QuantizedID] { steps.compactMap(\.quantized) }

  func run(_ pass: Pass, rows: Range<Int>) throws {
    try pass.eachBlock(of: rows) { block in
      for step in steps { step.run(pass, block) }
    }
  }
}
