import OTContainer
import OTFoundation
import OTJSON
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

  // MARK: Going on

  /// Writes all of a whole weight but its values, which must have been added last, behind these, and makes both
  /// durable.
  ///
  /// - Returns: what `restore` needs.
  /// - Throws: `Refusal` with rule `scratch-unwritable`.
  mutating func keep(_ rows: QuantizedRows, of linear: String) throws -> JSONObject {
    guard let entry = entries[linear] else { return [:] }
    var rest: [UInt8] = []
    rows.scales.withUnsafeBytes { rest += $0 }
    rest += rows.zeroPoints
    rows.shiftProduct?.withUnsafeBytes { rest += $0 }
    try rest.withUnsafeBytes { try scratch.write($0, at: byteCount) }
    byteCount += rest.count
    let statistics = rows.statistics
    return [
      "linear": .string(linear), "offset": .integer(entry.offset), "rowCount": .integer(rows.rows.count),
      "columnCount": .integer(entry.columnCount), "scaleCount": .integer(rows.scales.count),
      "zeroPointCount": .integer(rows.zeroPoints.count), "hasShiftProduct": .bool(rows.shiftProduct != nil),
      "squaredError": .integer(Int(bitPattern: UInt(statistics.squaredError.bitPattern))),
      "squares": .integer(Int(bitPattern: UInt(statistics.squares.bitPattern))),
      "maximumError": .integer(Int(statistics.maximumErrorInSteps.bitPattern)),
      "count": .integer(statistics.count),
      "checksum": .integer(Int(rows.values.withUnsafeBytes { checksum($0, rest) })),
    ]
  }

  /// Adds a whole weight that `keep` has written; false where it is not on the disk as it was.
  mutating func restore(
    _ record: JSONValue, of linear: String, shape: Shape, scheme: QuantizationScheme
  ) -> Bool {
    let columnCount = shape.rowElementCount
    let scaleCount = scheme.scaleCount(rowCount: shape.rowCount, columnCount: columnCount)
    guard record["linear"]?.string == linear, let offset = record["offset"]?.integer, offset == byteCount,
      record["rowCount"]?.integer == shape.rowCount, record["columnCount"]?.integer == columnCount,
      record["scaleCount"]?.integer == scaleCount,
      record["zeroPointCount"]?.integer == (scheme.isSymmetric ? 0 : scaleCount),
      let hasShiftProduct = record["hasShiftProduct"]?.bool, let squaredError = record["squaredError"]?.integer,
      let squares = record["squares"]?.integer,
      let maximumError = record["maximumError"]?.integer.flatMap(UInt32.init(exactly:)),
      let count = record["count"]?.integer
    else { return false }
    let valueEnd = offset + shape.elementCount
    let restCount =
      scaleCount * 4 + (scheme.isSymmetric ? 0 : scaleCount) + (hasShiftProduct ? shape.rowCount * 4 : 0)
    var rows = QuantizedRows(rows: 0..<shape.rowCount)
    guard valueEnd + restCount <= scratch.byteCount, let values = try? scratch.read(offset..<valueEnd),
      let rest = try? scratch.read(valueEnd..<valueEnd + restCount),
      record["checksum"]?.integer == Int(values.withUnsafeBytes({ checksum($0, rest) }))
    else { return false }
    func floats(_ range: Range<Int>) -> [Float] {
      rest.withUnsafeBytes { bytes in
        stride(from: range.lowerBound, to: range.upperBound, by: 4).map {
          bytes.loadUnaligned(fromByteOffset: $0, as: Float.self)
        }
      }
    }
    rows.scales = floats(0..<scaleCount * 4)
    let productStart = restCount - (hasShiftProduct ? shape.rowCount * 4 : 0)
    rows.zeroPoints = Array(rest[scaleCount * 4..<productStart])
    if hasShiftProduct { rows.shiftProduct = floats(productStart..<restCount) }
    rows.statistics = ErrorStatistics(
      squaredError: Double(bitPattern: UInt64(UInt(bitPattern: squaredError))),
      squares: Double(bitPattern: UInt64(UInt(bitPattern: squares))),
      maximumErrorInSteps: Float(bitPattern: maximumError), count: count)
    put(rows, columnCount: columnCount, of: linear, scheme: scheme)
    byteCount += shape.elementCount + restCount
    return true
  }

  /// Makes what was written durable.
  ///
  /// - Throws: `Refusal` with rule `scratch-unwritable`.
  func synchronize() throws { try scratch.synchronize() }

  private func checksum(_ values: UnsafeRawBufferPointer, _ rest: [UInt8]) -> UInt32 {
    rest.withUnsafeBytes { Checksum.crc32($0, after: Checksum.crc32(values)) }
  }

  private mutating func put(
    _ rows: QuantizedRows, columnCount: Int, of linear: String, scheme: QuantizationScheme
  ) {
    var rest = rows
    rest.values = []
    entries[linear] = Entry(offset: byteCount, columnCount: columnCount, scheme: scheme, rows: rest)
  }

  // MARK: Weights

  /// Keeps a whole weight, by the name of its linear.
  ///
  /// - Throws: `Refusal` with rule `scratch-unwritable`.
  package mutating func add(_ rows: QuantizedRows, of linear: String, scheme: QuantizationScheme) throws {
    try rows.values.withUnsafeBytes { try scratch.write($0, at: byteCount) }
    put(
      rows, columnCount: rows.rows.isEmpty ? 0 : rows.values.count / rows.rows.count, of: linear, scheme: scheme)
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
