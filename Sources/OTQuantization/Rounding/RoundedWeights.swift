import OTFoundation
import OTTensor

/// Weights that are rounded already, until they are written: the values in a scratch file, all else in memory.
package struct RoundedWeights: Sendable {
  private struct Entry: Sendable {
    let offset, columnCount: Int
    let scheme: QuantizationScheme
    /// Scales, zero points, products with the shift and error of all rows; no values.
    let rows: QuantizedRows
  }

  /// The sites that no token reached, by their producers: their weights are rounded to nearest.
  package internal(set) var unreached: [String] = []

  private let scratch: ScratchFile
  private var entries: [String: Entry] = [:]
  private var byteCount = 0

  /// No weights yet.
  package init(in scratch: ScratchFile) { self.scratch = scratch }

  /// Keeps a whole weight, by the name of its linear.
  ///
  /// - Throws: `Refusal` with rule `scratch-unwritable`.
  package mutating func add(_ rows: QuantizedRows, of linear: String, scheme: QuantizationScheme) throws {
    let columnCount = rows.rows.isEmpty ? 0 : rows.values.count / rows.rows.count
    try rows.values.withUnsafeBytes { try scratch.write($0, at: byteCount) }
    var rest = rows
    rest.values = []
    entries[linear] = Entry(
      offset: byteCount, columnCount: columnCount, scheme: scheme, rows: rest)
    byteCount += rows.values.count
  }

  /// True when a linear's weight is among them.
  package func has(_ linear: String) -> Bool { entries[linear] != nil }

  /// A whole weight; nil where it is not among them.
  ///
  /// - Throws: as `rows(_:of:)`.
  func rows(of linear: String) throws -> QuantizedRows? {
    try entries[linear].flatMap { try rows($0.rows.rows, of: linear) }
  }

  /// Some rows of a weight; nil where it is not among them. The error of the whole weight, and the one
  /// scale of a scheme per tensor, are with the block that begins with row 0.
  ///
  /// - Throws: `Refusal` with rule `scratch-unwritable`.
  package func rows(_ range: Range<Int>, of linear: String) throws -> QuantizedRows? {
    guard let entry = entries[linear] else { return nil }
    let all = entry.rows
    var result = QuantizedRows(rows: range)
    let first = entry.offset + range.lowerBound * entry.columnCount
    result.values = try scratch.read(first..<first + range.count * entry.columnCount)
    let groupCount = entry.scheme.groupCount(columnCount: entry.columnCount)
    let steps =
      entry.scheme.granularity == .perTensor
      ? 0..<(range.lowerBound == 0 ? 1 : 0) : range.lowerBound * groupCount..<range.upperBound * groupCount
    result.scales = Array(all.scales[steps])
    if !all.zeroPoints.isEmpty { result.zeroPoints = Array(all.zeroPoints[steps]) }
    result.shiftProduct = all.shiftProduct.map { Array($0[range]) }
    if range.lowerBound == 0 { result.statistics = all.statistics }
    return result
  }
}
