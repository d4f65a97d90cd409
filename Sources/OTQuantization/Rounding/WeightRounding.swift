import OTFoundation
import OTJSON
import OTKernels
import OTObservation
import OTTensor

/// Some rows of a weight whose steps are chosen, ready to be rounded.
package struct WeightBlock {
  /// Index of the first row.
  package let firstRow: Int
  /// Rows.
  package let rowCount: Int
  /// Weights of a row.
  package let columnCount: Int
  /// Transformed weights, `[row, column]`; a rounding may change them as it goes.
  package let weights: UnsafeMutableBufferPointer<Float>
  /// A step for each group of `groupSize` weights of a row, `[row, group]`; one for all where the scheme is per tensor.
  package let steps: [StepChoice]
  /// Weights that share a step; the last group of a row may have fewer.
  package let groupSize: Int
  /// The scheme whose values are chosen.
  package let scheme: QuantizationScheme
  /// Kernels that round.
  package let kernels: Kernels

  /// The step of a weight; `row` counts from 0 in this block.
  package func step(row: Int, column: Int) -> StepChoice {
    steps.count == 1 ? steps[0] : steps[row * scheme.groupCount(columnCount: columnCount) + column / groupSize]
  }

  /// The sum of the weights that quantized values of a row stand for, in float64; `row` counts from 0 in this block.
  func sum(ofRow row: Int, _ values: UnsafeMutableBufferPointer<UInt8>) -> Double {
    values.enumerated().reduce(0) { sum, element in
      let step = step(row: row, column: element.offset)
      return sum + Double(step.scale) * Double(Int(element.element) - step.zeroPoint)
    }
  }
}

/// Makes weights quantized values.
///
/// Rows are independent of each other. Blocks of a weight are rounded in any order, on several threads.
package protocol WeightRounding: Sendable {
  /// Rows of a block, but for the last of a weight: as few as stay in the cache, or more where they share work.
  var rowsAtATime: Int { get }

  /// The largest |w| that the range of each group of each row reaches to, `[row, group]`; nil: to all its weights.
  func limits(_ weights: WeightRows) -> [Float]?

  /// The same without limits, for weights that should have none.
  var unclipped: any WeightRounding { get }

  /// Rounds a block.
  ///
  /// - Parameters:
  ///   - values: one quantized value for each weight, to be filled.
  ///   - error: gains the error of the block, against the weights as they were given.
  func round(
    _ block: WeightBlock, into values: UnsafeMutableBufferPointer<UInt8>, addingErrorTo error: inout ErrorStatistics)
}

extension WeightRounding {
  /// 16.
  package var rowsAtATime: Int { 16 }
  /// None.
  package func limits(_ weights: WeightRows) -> [Float]? { nil }
  /// Itself.
  package var unclipped: any WeightRounding { self }
}

/// A rule for making weights quantized values, before it knows the site whose weights it rounds.
///
/// A new rule is one file that implements this, and a line in `Roundings.all`.
package protocol RoundingRule: Sendable {
  /// The name on the command line (`--rounding`) and in files.
  static var name: String { get }

  /// The rule with what the user chose.
  ///
  /// - Throws: `Refusal` with rule `method-option`; options that it does not take are refused for it.
  init(_ options: inout MethodOptions) throws

  /// What it needs to know of a site's value, as the network gives it whose weights are quantized so far;
  /// empty: it rounds each weight for itself.
  var needs: Set<ObservationKind> { get }

  /// True when it goes by what the float network gives, too: `SiteObservations.drift`.
  var comparesWithFloat: Bool { get }

  /// The rounding of the weights that read a site.
  ///
  /// - Parameter observed: may be worked on where it is.
  /// - Throws: `Refusal` where what it needs was not observed, or does not do.
  func fitted(to observed: consuming SiteObservations) throws -> any WeightRounding

  /// Memory in bytes that the fitted rounding of a site of so many channels takes, beside what was observed.
  func fittedByteCount(channelCount: Int) -> Int

  /// The name that files record with each weight: what becomes of it goes by that.
  var kind: RoundingKind { get }

  /// The file's record of the rule beside its name.
  var record: JSONObject { get }
}

extension RoundingRule {
  /// False.
  package var comparesWithFloat: Bool { false }
}
